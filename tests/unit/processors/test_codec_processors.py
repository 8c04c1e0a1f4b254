"""`Compress` and `Decompress` as a rank runs them."""

from typing import Any

import numpy as np
import pytest

from beamcast.core.errors import DataError, UsageError
from beamcast.core.ids import FrameKey
from beamcast.pools.frame import Frame
from beamcast.pools.native import NativeProcessor
from beamcast.pools.params import checked_arguments
from beamcast.processors.codecs import Compress, Decompress
from beamcast.pva.ndarray import ImageReader, image_view, make_ndarray

IMAGE = np.random.default_rng(1).poisson(2, (60, 50)).astype(np.uint16)


def frame(image: Any = IMAGE) -> Frame:
    return Frame(make_ndarray(image, frame_id=5, timestamp_s=12.25), FrameKey(5), ImageReader())


@pytest.mark.parametrize("codec", ["blosc", "lz4", "bslz4", "zlib"])
def test_there_and_back(codec: Any) -> None:
    compress, decompress = Compress(codec=codec), Decompress()
    given = frame()
    packed = compress.process(given)
    assert packed["codec.name"] == codec
    assert packed["compressedSize"] < packed["uncompressedSize"] == IMAGE.nbytes
    np.testing.assert_array_equal(given.image, IMAGE)
    plain = decompress.process(Frame(packed, FrameKey(5), ImageReader()))
    assert plain["codec.name"] == ""
    assert plain["uniqueId"] == 5
    assert list(plain["value"][0]) == ["ushortValue"]
    assert plain["compressedSize"] == plain["uncompressedSize"] == IMAGE.nbytes
    np.testing.assert_array_equal(image_view(plain), IMAGE)
    assert compress.stats()["ratio"] > 1
    assert decompress.stats() == {"decoded": 1}


def test_what_is_done_already_passes() -> None:
    compress, decompress = Compress(), Decompress()
    given = frame()
    packed = compress.process(given)
    before = bytes(packed["value"][0]["ubyteValue"])
    assert bytes(Compress(codec="zlib").process(given)["value"][0]["ubyteValue"]) == before
    plain = frame()
    assert decompress.process(plain) is plain.pv
    assert decompress.stats() == {"decoded": 0}


def test_the_counts_can_be_reset_and_have_types() -> None:
    compress = Compress()
    compress.process(frame())
    compress.reset_stats()
    assert compress.stats() == {"takenBytes": 0, "givenBytes": 0, "ratio": 1.0, "passed": 0}
    assert set(NativeProcessor(compress, spec="x").stats_types()) == set(compress.stats())


def test_a_payload_that_lies_is_not_passed_on() -> None:
    packed = Compress().process(frame())
    packed.setLong("uncompressedSize", 7)
    with pytest.raises(DataError, match="uncompressedSize is 7"):
        Decompress().process(Frame(packed, FrameKey(5), ImageReader()))
    assert packed["codec.name"] == "blosc"


def test_something_else_than_an_image_is_refused() -> None:
    import pvaccess

    with pytest.raises(DataError, match="not an NTNDArray"):
        Compress().process(Frame(pvaccess.PvObject({"a": pvaccess.INT}), FrameKey(1), ImageReader()))


def test_parameters_are_checked_before_anything_starts() -> None:
    with pytest.raises(UsageError, match="codec"):
        checked_arguments(Compress, {"codec": "lzma"}, what="Compress")
    with pytest.raises(UsageError, match="0 to 9"):
        Compress(level=12)
