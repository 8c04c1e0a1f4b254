"""Compressed images: round trips between us and PvaPy, and frames that lie about themselves."""

import os
import random
import sys
import zlib
from typing import Any

import numpy as np
import pvaccess
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pvapy.utility.adImageUtility import AdImageUtility

from beamcast.core.errors import DataError, UsageError
from beamcast.pva.codecs import DECODERS
from beamcast.pva.compress import encode, make_encoder, set_compressed
from beamcast.pva.ndarray import FIELD_OF_DTYPE, image_view, make_ndarray

LOSSLESS = ("blosc", "lz4", "bslz4", "zlib")
# bitshuffle has no package for later Pythons.
PVAPYS = ("blosc", "lz4", "bslz4") if sys.version_info < (3, 13) else ("blosc", "lz4")
DTYPES = sorted(FIELD_OF_DTYPE, key=str)


def noise(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> Any:
    return np.random.default_rng(seed).poisson(3, shape).astype(dtype)


def encoder(codec: Any, **options: Any) -> Any:
    return make_encoder(codec, **{"level": None, "compressor": "lz4", "shuffle": "bit", **options})


def packed(image: Any, codec: str, **options: Any) -> Any:
    pv = make_ndarray(image, frame_id=1, timestamp_s=1.5)
    set_compressed(pv, encode(encoder(codec, **options), image, codec=codec), codec=codec, image=image)
    return pv


def with_payload(pv: Any, payload: bytes) -> Any:
    pv.setUnion("value", {"ubyteValue": np.frombuffer(payload, np.uint8)})
    pv.setLong("compressedSize", len(payload))
    return pv


def payload_of(pv: Any) -> bytes:
    return bytes(pv.getUnion("value").getScalarArray("ubyteValue"))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("codec", LOSSLESS)
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (128, 33), (2, 70, 67)], ids=str)
def test_what_is_compressed_comes_back(codec: str, dtype: Any, shape: tuple[int, ...]) -> None:
    image = noise(shape, dtype)
    back = image_view(packed(image, codec))
    assert back.dtype == image.dtype
    np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize("codec", LOSSLESS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 4), (40, 50)], ids=str)
def test_black_images_come_back(codec: str, dtype: Any, shape: tuple[int, ...]) -> None:
    """Their payloads begin with the most zeros."""
    np.testing.assert_array_equal(image_view(packed(np.zeros(shape, dtype), codec)), 0)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), codec=st.sampled_from(LOSSLESS))
def test_any_image_comes_back_bit_for_bit(data: st.DataObject, codec: str) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    image = data.draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=3, max_side=40)))
    assert image_view(packed(image, codec)).tobytes() == image.tobytes()


def test_a_block_that_lz4_makes_no_shorter_is_still_compressed() -> None:
    """Eight numbers, 64 bytes, of which LZ4 makes 64 bytes: found among random ones, so that it holds for any LZ4."""
    patterns = np.random.default_rng(5).integers(0, 2**64, (4000, 8), np.uint64)
    patterns[:, 2:] = patterns[:, 2:3]
    full = [
        row for row in patterns if encode(encoder("bslz4"), row.reshape(2, 4), codec="bslz4").nbytes == 4 + 64
    ]
    assert full, "no example any more: draw others"
    for row in full:
        np.testing.assert_array_equal(image_view(packed(row.reshape(2, 4), "bslz4")), row.reshape(2, 4))


@pytest.mark.parametrize("compressor", ["blosclz", "lz4", "lz4hc", "zlib", "zstd"])
@pytest.mark.parametrize("shuffle", ["none", "byte", "bit"])
def test_blosc_takes_its_options(compressor: str, shuffle: str) -> None:
    image = noise((64, 65), np.uint16)
    pv = packed(image, "blosc", compressor=compressor, shuffle=shuffle, level=3)
    assert pv["compressedSize"] < image.nbytes
    assert payload_of(pv)[3] == 2, "the shuffling knows the size of an element"
    np.testing.assert_array_equal(image_view(pv), image)


@pytest.mark.parametrize("codec", PVAPYS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64], ids=lambda t: t.__name__)
def test_pvapy_reads_what_we_compress(codec: str, dtype: Any) -> None:
    image = noise((100, 83), dtype)
    _, theirs, nx, ny, *_ = AdImageUtility.reshapeNtNdArray(packed(image, codec))
    assert (nx, ny) == (83, 100)
    np.testing.assert_array_equal(theirs, image)


def pvapy_packed(image: Any, codec: str) -> bytes:
    """As users of PvaPy's simulator compress."""
    if codec == "blosc":
        import blosc

        return bytes(blosc.compress(image.tobytes(), typesize=image.itemsize))
    if codec == "lz4":
        import lz4.block

        return bytes(lz4.block.compress(image.tobytes(), store_size=False))
    import bitshuffle

    return bytes(bitshuffle.compress_lz4(np.ascontiguousarray(image).reshape(-1), 0))


@pytest.mark.parametrize("codec", PVAPYS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64], ids=lambda t: t.__name__)
def test_we_read_what_pvapy_compresses(codec: str, dtype: Any) -> None:
    image = noise((100, 83), dtype)
    data = np.frombuffer(pvapy_packed(image, codec), np.uint8)
    pv = AdImageUtility.generateNtNdArray2D(1, data, nx=83, ny=100, dtype=dtype, compressorName=codec)
    np.testing.assert_array_equal(image_view(pv), image)


@pytest.mark.parametrize(("codec", "opaque"), [("bslz4", "bitshuffle"), ("lz4", "lz4"), ("lz4hdf5", "lz4")])
@pytest.mark.parametrize("shape", [(64, 65), (3, 5)], ids=str)
def test_chunks_of_hdf5_files_are_read(codec: str, opaque: str, shape: tuple[int, int]) -> None:
    """Detectors such as the Eiger send what the HDF5 filters write, under the same names."""
    import h5py
    import hdf5plugin

    image = noise(shape, np.uint16)
    compression = (
        hdf5plugin.Bitshuffle(cname="lz4") if opaque == "bitshuffle" else hdf5plugin.LZ4(nbytes=1024)
    )
    with h5py.File.in_memory() as file:
        data = file.create_dataset("data", data=image, chunks=image.shape, **compression)
        _, chunk = data.id.read_direct_chunk((0, 0))
    pv = packed(image, "lz4")
    pv.setString("codec.name", codec)
    np.testing.assert_array_equal(image_view(with_payload(pv, chunk)), image)


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3)], ids=str)
def test_jpeg_keeps_shape_and_nearly_the_pixels(shape: tuple[int, ...]) -> None:
    image = np.broadcast_to(np.linspace(0, 255, 60, dtype=np.uint8)[None, :, None], (40, 60, 3))
    image = np.ascontiguousarray(image if len(shape) == 3 else image[..., 0])
    back = image_view(packed(image, "jpeg", level=95))
    assert back.shape == shape
    assert np.abs(back.astype(int) - image).max() < 8


def test_a_server_may_send_its_whole_buffer() -> None:
    image = noise((20, 30), np.uint16)
    pv = packed(image, "lz4")
    size, payload = pv["compressedSize"], payload_of(pv)
    with_payload(pv, payload + b"rubbish").setLong("compressedSize", size)
    np.testing.assert_array_equal(image_view(pv), image)


def test_a_view_of_a_strided_image_is_compressed_as_it_looks() -> None:
    image = noise((40, 60), np.uint16)[::2, ::3]
    np.testing.assert_array_equal(image_view(packed(image, "bslz4")), image)


CODECS = (*LOSSLESS, "jpeg")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("uncompressedSize", 1),
        ("uncompressedSize", 2**40),
        ("uncompressedSize", -1),
        ("compressedSize", 10**9),
    ],
)
def test_sizes_that_do_not_agree_are_refused(codec: str, field: str, value: int) -> None:
    pv = packed(noise((20, 30), np.uint8), codec)
    pv.setLong(field, value)
    with pytest.raises(DataError, match=field):
        image_view(pv)


def dimensions(pv: Any, *sizes: int) -> Any:
    blank = {"offset": 0, "fullSize": 0, "binning": 1, "reverse": False}
    pv.setStructureArray("dimension", [{"size": size, **blank} for size in sizes])
    return pv


@pytest.mark.parametrize("codec", CODECS)
def test_a_bomb_is_refused_before_memory_is_taken(codec: str) -> None:
    pv = dimensions(packed(noise((20, 30), np.uint8), codec), 2**20, 2**20)
    pv.setLong("uncompressedSize", 2**40)
    with pytest.raises(DataError, match="2 GiB are too many"):
        image_view(pv)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("sizes", [(), (0, 30), (-20, -30)], ids=str)
def test_impossible_dimensions_are_refused(codec: str, sizes: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="dimensions"):
        image_view(dimensions(packed(noise((20, 30), np.uint8), codec), *sizes))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rows", [19, 21])
def test_a_payload_of_another_size_than_stated_is_refused(codec: str, rows: int) -> None:
    """All that the frame says agrees, and the payload holds 20 rows."""
    pv = dimensions(packed(noise((20, 30), np.uint8), codec), 30, rows)
    pv.setLong("uncompressedSize", 30 * rows)
    with pytest.raises(DataError, match=f"not what codec '{codec}' makes of {30 * rows} bytes"):
        image_view(pv)


def test_a_zlib_bomb_stops_at_the_stated_size() -> None:
    pv = packed(noise((20, 30), np.uint8), "zlib")
    with pytest.raises(DataError, match="it holds 601 bytes"):
        image_view(with_payload(pv, zlib.compress(bytes(10_000_000))))


@pytest.mark.parametrize("codec", sorted(DECODERS))
def test_no_payload_of_rubbish_crashes_or_passes_as_something_else(codec: str) -> None:
    """Truncated, changed and random payloads: an image of the stated size or DataError, never another end."""
    dice = random.Random(7)
    image = noise((50, 70), np.uint16 if codec != "jpeg" else np.uint8)
    good = payload_of(packed(image, "lz4" if codec == "lz4hdf5" else codec))
    refused = 0
    for attempt in range(300):
        kind, payload = attempt % 4, bytearray(good)
        if kind == 0:
            del payload[dice.randrange(len(payload)) :]
        elif kind == 1:
            for _ in range(8):
                payload[dice.randrange(len(payload))] = dice.randrange(256)
        elif kind == 2:
            payload = bytearray(os.urandom(dice.randrange(1, 200)))
        else:
            payload[:16] = bytes(4) + os.urandom(12)
        pv = packed(image, "lz4")
        pv.setString("codec.name", codec)
        try:
            assert image_view(with_payload(pv, bytes(payload))).shape == image.shape
        except DataError:
            refused += 1
    assert refused >= 150, "half of them can't be anything"


def test_the_element_type_is_said_or_the_frame_refused() -> None:
    pv = packed(noise((20, 30), np.uint16), "blosc")
    for parameters in (pvaccess.PvInt(0), pvaccess.PvInt(11), pvaccess.PvInt(-3)):
        pv["codec"] = pvaccess.PvCodec("blosc", parameters)
        with pytest.raises(DataError, match="does not name the element type"):
            image_view(pv)


def test_jpeg_needs_no_element_type_but_one_of_8_bits() -> None:
    image = np.full((20, 30), 7, np.uint8)
    pv = packed(image, "jpeg")
    pv["codec"] = pvaccess.PvCodec("jpeg", pvaccess.PvInt(0))
    assert image_view(pv).dtype == np.uint8
    pv["codec"] = pvaccess.PvCodec("jpeg", pvaccess.PvInt(6))
    with pytest.raises(DataError, match="8-bit"):
        image_view(pv)


def test_an_unknown_codec_is_named_with_those_that_are_known() -> None:
    pv = packed(noise((2, 3), np.uint8), "lz4")
    pv.setString("codec.name", "snappy")
    with pytest.raises(DataError, match=r"codec 'snappy'.*blosc, lz4, bslz4"):
        image_view(pv)
    pv.setString("codec.name", "beamcast.aes256gcm")
    with pytest.raises(DataError, match="encryption:Open opens it"):
        image_view(pv)


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pv = packed(noise((2, 3), np.uint8), "lz4")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(UsageError, match=r"codec 'lz4' needs a library: .*imagecodecs"):
        image_view(pv)
    with pytest.raises(UsageError, match=r"beamcast\[files\]"):
        encoder("blosc")


@pytest.mark.parametrize(
    ("codec", "level", "words"),
    [("blosc", 10, "0 to 9"), ("jpeg", 0, "1 to 100"), ("lz4", 3, "no level"), ("zlib", -1, "0 to 9")],
)
def test_levels_are_checked(codec: str, level: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        encoder(codec, level=level)


@pytest.mark.parametrize(
    "image", [noise((4, 4), np.uint16), noise((3, 4, 4), np.uint8)], ids=["u2", "planes"]
)
def test_jpeg_refuses_what_it_can_not_hold(image: Any) -> None:
    with pytest.raises(DataError, match="JPEG holds 8-bit"):
        encode(encoder("jpeg"), image, codec="jpeg")
