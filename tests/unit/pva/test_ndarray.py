import re
from typing import Any

import numpy as np
import pvaccess
import pytest

from beamcast.core.errors import DataError
from beamcast.pva.ndarray import (
    FIELD_OF_DTYPE,
    MAX_FRAME_ID,
    SCALAR_OF_FIELD,
    image_view,
    make_ndarray,
    prepare_value,
    set_header,
    set_image,
    set_prepared,
)


@pytest.mark.parametrize("dtype", FIELD_OF_DTYPE, ids=str)
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (1, 1), (7,)])
def test_every_dtype_and_shape_survives(dtype: np.dtype, shape: tuple[int, ...]) -> None:
    image = (np.arange(np.prod(shape)) * 5 - (0 if dtype.kind == "u" else 20)).astype(dtype).reshape(shape)
    view = image_view(make_ndarray(image, frame_id=1, timestamp_s=0.0))
    assert view.dtype == dtype
    assert view.shape == shape
    assert np.array_equal(view, image)


def test_header_fields() -> None:
    pv = make_ndarray(np.zeros((3, 4), np.uint16), frame_id=MAX_FRAME_ID, timestamp_s=1_700_000_000.25)
    assert pv["uniqueId"] == MAX_FRAME_ID
    for name in ("timeStamp", "dataTimeStamp"):
        assert (pv[f"{name}.secondsPastEpoch"], pv[f"{name}.nanoseconds"]) == (1_700_000_000, 250_000_000)
    assert [d["size"] for d in pv["dimension"]] == [4, 3]
    assert pv["compressedSize"] == pv["uncompressedSize"] == 24


@pytest.mark.parametrize(
    "image",
    [
        np.arange(24, dtype=np.uint8).reshape(4, 6)[:, ::2],
        np.arange(24, dtype=np.uint8).reshape(4, 6).T,
        np.arange(24, dtype=np.uint8).reshape(4, 6)[::-1],
    ],
    ids=["strided", "transposed", "reversed"],
)
def test_arrays_that_are_not_contiguous_keep_their_pixels(image: np.ndarray) -> None:
    assert np.array_equal(image_view(make_ndarray(image, frame_id=0, timestamp_s=0)), image)
    pv = pvaccess.NtNdArray()
    set_image(pv, image)
    set_prepared(pv, prepare_value(image))
    assert np.array_equal(image_view(pv), image)


def test_a_view_is_read_only_and_outlives_its_object() -> None:
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    pv = make_ndarray(image, frame_id=0, timestamp_s=0)
    view = image_view(pv)
    set_image(pv, image + 1)
    del pv
    assert not view.flags.writeable
    assert np.array_equal(view, image)


def test_a_prepared_value_is_shared_not_copied() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    value = prepare_value(image)
    first, second = (make_ndarray(image * 0, frame_id=0, timestamp_s=0) for _ in range(2))
    for pv in (first, second):
        set_prepared(pv, value)
    assert np.array_equal(image_view(first), image)
    assert np.shares_memory(image_view(first), image_view(second))


@pytest.mark.parametrize(
    "image", [np.zeros((2, 2), bool), np.zeros((2, 2), ">u2"), np.zeros((2, 2), complex)]
)
def test_dtypes_without_a_field_are_refused(image: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"no field for dtype .*convert to one of int8"):
        make_ndarray(image, frame_id=0, timestamp_s=0)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(DataError, match="no pixels"):
        set_image(pvaccess.NtNdArray(), np.zeros((0, 4), np.uint8))


def test_unreadable_objects_say_why() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    with pytest.raises(DataError, match="holds no image"):
        image_view(pvaccess.NtNdArray())
    for generic in ({"value": pvaccess.INT}, {"x": pvaccess.INT}, {"value": [pvaccess.UBYTE]}):
        with pytest.raises(DataError, match="not an NTNDArray"):
            image_view(pvaccess.PvObject(generic))
    packed = make_ndarray(image, frame_id=0, timestamp_s=0)
    packed["codec.name"] = "lz4"
    with pytest.raises(DataError, match="codec 'lz4'"):
        image_view(packed)
    torn = make_ndarray(image, frame_id=0, timestamp_s=0)
    torn["dimension"] = [{"size": 5, "offset": 0, "fullSize": 5, "binning": 1, "reverse": False}] * 2
    with pytest.raises(DataError, match=r"12 values, but .* \(5, 5\)"):
        image_view(torn)
    torn["dimension"] = []
    with pytest.raises(DataError, match="dimensions"):
        image_view(torn)


def test_an_id_beyond_32_bits_is_an_error_not_another_id() -> None:
    pv = pvaccess.NtNdArray()
    with pytest.raises(OverflowError):
        set_header(pv, frame_id=MAX_FRAME_ID + 1, timestamp_ns=0)


def sparse(value: object, *, codec: bool = False, dimension: object = None) -> Any:
    """An NTNDArray as databases of IOCs make them: some fields alone, the value of a type of its own."""
    fields = {"value": value, "dimension": [{"size": pvaccess.INT}], "uniqueId": pvaccess.INT}
    if codec:
        fields["codec"] = {"name": pvaccess.STRING}
    pv = pvaccess.PvObject(fields, "epics:nt/NTNDArray:1.0")
    pv["dimension"] = [{"size": 3}, {"size": 2}] if dimension is None else dimension
    return pv


@pytest.mark.parametrize("dtype", FIELD_OF_DTYPE, ids=str)
@pytest.mark.parametrize("kind", ["any", "array", "union"])
@pytest.mark.parametrize("codec", [False, True])
def test_fields_that_a_server_left_out_are_not_missed(dtype: np.dtype, kind: str, codec: bool) -> None:
    """C11: the test databases of pvxs and Phoebus have no codec, a value of type any, and sizes alone."""
    image = np.arange(6).astype(dtype).reshape(2, 3)
    field = FIELD_OF_DTYPE[np.dtype(dtype)]
    scalar = SCALAR_OF_FIELD[field]
    pv = sparse({"any": (), "array": [scalar], "union": ({field: [scalar]},)}[kind], codec=codec)
    match kind:
        case "any":
            pv["value"] = pvaccess.PvObject({"value": [scalar]}, {"value": image.reshape(-1)})
        case "array":
            pv.setScalarArray("value", image.reshape(-1))
        case "union":
            pv.setUnion("value", {field: image.reshape(-1)})
    view = image_view(pv)
    assert view.dtype == dtype
    assert np.array_equal(view, image)


def test_what_is_no_image_says_why() -> None:
    cases = {
        "it has no field 'dimension', but value": pvaccess.PvObject({"value": ()}),
        "its value is neither a union nor an array": sparse(pvaccess.INT),
        "holds no image: its value is empty": sparse(()),
        "no array of numbers, but list": sparse([pvaccess.STRING], dimension=[{"size": 2}]),
        "the image has 6 values, but its dimensions (rows first) are ()": sparse(
            [pvaccess.INT], dimension=[]
        ),
    }
    cases["the image has 6 values, but its dimensions (rows first) are ()"]["value"] = list(range(6))
    cases["no array of numbers, but list"]["value"] = ["a", "b"]
    for words, pv in cases.items():
        with pytest.raises(DataError, match=re.escape(words)):
            image_view(pv)


def test_a_codec_without_what_it_needs_says_so() -> None:
    pv = sparse((), codec=True)
    pv["value"] = pvaccess.PvObject({"value": [pvaccess.UBYTE]}, {"value": np.zeros(6, np.uint8)})
    pv["codec"] = {"name": "jpeg"}
    with pytest.raises(DataError, match=r"compressed \(jpeg\), and what decoding needs is missing"):
        image_view(pv)
