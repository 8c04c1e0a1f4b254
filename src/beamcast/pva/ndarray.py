"""Between NumPy arrays and NTNDArray objects, the cheap way.

pvaccess offers several roads to each field and they differ fivefold. What is used here, measured on pvapy
5.6: ``getInt``/``getString`` by path 0.35 µs (``pv['field']`` 1.1 µs); the image through ``getUnion`` and
``getScalarArray`` 2.6 µs and no copy at any size (``pv['value']`` 4–8 µs, and its ``reshapeNtNdArray``
helper 33 µs); ``getStructureArray('dimension')`` 2.3 µs. So the dimensions are read with each frame:
remembering them would save 2 µs and serve a transposed image wrongly.

``setUnion`` copies a NumPy array but shares the payload of a PvObject (0.75 µs), which is how
`prepare_value` lets one image be published many times.

Traps these functions keep away: pvaccess reads a strided or big-endian array as if it were contiguous (wrong
pixels, no error), a bool array likewise; ``getUnion`` on a field that is not a union crashes the process, so
``getSelectedUnionFieldName``, which raises, is asked first; ``getUnionArray('value')`` crashes always.
"""

import math
from typing import Any

import numpy as np
import pvaccess

from beamcast.core.errors import DataError

Image = np.ndarray[Any, np.dtype[Any]]

FIELD_OF_DTYPE = {
    np.dtype(np.int8): "byteValue",
    np.dtype(np.uint8): "ubyteValue",
    np.dtype(np.int16): "shortValue",
    np.dtype(np.uint16): "ushortValue",
    np.dtype(np.int32): "intValue",
    np.dtype(np.uint32): "uintValue",
    np.dtype(np.int64): "longValue",
    np.dtype(np.uint64): "ulongValue",
    np.dtype(np.float32): "floatValue",
    np.dtype(np.float64): "doubleValue",
}
SCALAR_OF_FIELD = {
    "byteValue": pvaccess.BYTE,
    "ubyteValue": pvaccess.UBYTE,
    "shortValue": pvaccess.SHORT,
    "ushortValue": pvaccess.USHORT,
    "intValue": pvaccess.INT,
    "uintValue": pvaccess.UINT,
    "longValue": pvaccess.LONG,
    "ulongValue": pvaccess.ULONG,
    "floatValue": pvaccess.FLOAT,
    "doubleValue": pvaccess.DOUBLE,
}
# uniqueId is a 32-bit signed integer in NTNDArray: at 26 kHz a counter lasts 23 hours.
MAX_FRAME_ID = 2**31 - 1
_NS_PER_S = 1_000_000_000


def image_view(pv: Any) -> Image:
    """The image of an NTNDArray as a read-only view: no copy, valid as long as the view lives.

    Shape is ``dimension`` reversed (the first dimension runs fastest): (rows, cols), or (z, rows, cols) for
    a stack or colour image. The dtype is the one of the selected union field (``booleanValue`` reads as
    int8). A compressed image is decoded, anew with each call (`beamcast.pva.codecs`). What a server leaves out
    of the type that can be done without is (`_sparse_image_view`). Raises `DataError` if ``pv`` is no NTNDArray
    or holds no image, if it is encrypted or its codec unknown, and if size and dimensions disagree.
    """
    try:
        field = pv.getSelectedUnionFieldName("value")
        codec = pv.getString("codec.name")
        dimensions = pv.getStructureArray("dimension")
    except pvaccess.PvaException:
        return _sparse_image_view(pv)
    if not field:
        return _sparse_image_view(pv)
    shape = tuple([dimension["size"] for dimension in dimensions[::-1]])
    if codec:
        return _decoded(pv, codec, field, shape)
    return _shaped(pv.getUnion("value").getScalarArray(field), shape)


def _sparse_image_view(pv: Any) -> Image:
    """The image of an NTNDArray as databases of IOCs make them, which have the fields that somebody wrote down: no
    ``codec``, a ``value`` of type any or a plain array, dimensions with sizes alone. As `image_view`, a little slower.
    """
    structure = pv.getStructureDict()
    for name in ("value", "dimension"):
        if name not in structure:
            raise DataError(f"this is not an NTNDArray: it has no field {name!r}, but {', '.join(structure)}")
    if not isinstance(structure["value"], tuple | list):
        raise DataError("this is not an NTNDArray: its value is neither a union nor an array")
    try:
        codec = pv.getString("codec.name") if pv.hasField("codec.name") else ""
        shape = tuple(int(dimension["size"]) for dimension in pv["dimension"][::-1])
        value = pv["value"]
    except (pvaccess.PvaException, LookupError, TypeError) as error:
        raise DataError(f"this is not an NTNDArray: {error}") from error
    field = ""
    if isinstance(value, tuple):  # a union, or any: what is in it by its name, and its type
        if not value[0]:
            raise DataError("the NTNDArray holds no image: its value is empty")
        field, value = next(iter(value[0].items()))
    if codec and field:
        return _decoded(pv, codec, field, shape)
    flat = np.asarray(value)
    if flat.dtype not in FIELD_OF_DTYPE or flat.ndim != 1 or codec:
        raise DataError(f"the value of the NTNDArray is no array of numbers, but {type(value).__name__}")
    return _shaped(flat, shape)


def _shaped(flat: Image, shape: tuple[int, ...]) -> Image:
    if not shape or not flat.size or flat.size != math.prod(shape):
        raise DataError(f"the image has {flat.size} values, but its dimensions (rows first) are {shape}")
    return flat.reshape(shape)


def _decoded(pv: Any, codec: str, field: str, shape: tuple[int, ...]) -> Image:
    # Not on the path of a plain image, and its libraries are loaded with the first compressed one.
    from beamcast.pva.codecs import decode_image

    try:
        return decode_image(pv, codec=codec, field=field, shape=shape)
    except pvaccess.PvaException as error:
        raise DataError(
            f"the image is compressed ({codec}), and what decoding needs is missing: {error}"
        ) from error


class ImageReader:
    """Reads the images of one stream, one after the other.

    Keeps nothing between frames: all that could be kept are the dimensions, and only reading them tells
    whether they changed.
    """

    __slots__ = ()

    def read(self, pv: Any) -> Image:
        """The image of ``pv`` as `image_view` gives it, with the same errors."""
        return image_view(pv)


def make_ndarray(image: Image, *, frame_id: int, timestamp_s: float) -> Any:
    """A new NTNDArray with a copy of ``image``, its id and its time (seconds since 1970).

    Raises `DataError` as `set_image`. Reuse one object with `set_image` and `set_header` in loops.
    """
    pv = pvaccess.NtNdArray()
    set_image(pv, image)
    # Seconds and fraction apart: the product with 1e9 has no room in a float and is off by some 100 ns.
    whole_s = math.floor(timestamp_s)
    timestamp_ns = whole_s * _NS_PER_S + round((timestamp_s - whole_s) * _NS_PER_S)
    set_header(pv, frame_id=frame_id, timestamp_ns=timestamp_ns)
    return pv


def set_image(pv: Any, image: Image) -> None:
    """Put a copy of ``image`` into ``pv``, with its dimensions and sizes; id and time stay.

    Objects published or received earlier are not touched: the old payload is replaced, not overwritten.
    Raises `DataError` for a dtype that NTNDArray has no field for, and for an image without pixels.
    """
    field, flat = _flat(image)
    pv.setUnion("value", {field: flat})
    _set_geometry(pv, image)


def prepare_value(image: Image) -> Any:
    """A copy of ``image`` as a PvObject for `set_prepared`; raises `DataError` as `set_image`."""
    field, flat = _flat(image)
    return pvaccess.PvObject({field: [SCALAR_OF_FIELD[field]]}, {field: flat})


def set_prepared(pv: Any, value: Any) -> None:
    """Share the payload of ``value`` (from `prepare_value`) with ``pv``: no copy.

    Dimensions stay as they are, so ``pv`` must have held an image of the same shape and dtype.
    """
    pv.setUnion("value", value)


def set_header(pv: Any, *, frame_id: int, timestamp_ns: int) -> None:
    """Set id and both times of ``pv`` (nanoseconds since 1970); ``frame_id`` is at most `MAX_FRAME_ID`."""
    seconds, nanoseconds = divmod(timestamp_ns, _NS_PER_S)
    pv.setInt("uniqueId", frame_id)
    pv.setLong("timeStamp.secondsPastEpoch", seconds)
    pv.setInt("timeStamp.nanoseconds", nanoseconds)
    pv.setLong("dataTimeStamp.secondsPastEpoch", seconds)
    pv.setInt("dataTimeStamp.nanoseconds", nanoseconds)


def _flat(image: Image) -> tuple[str, Image]:
    field = FIELD_OF_DTYPE.get(image.dtype)
    if field is None:
        raise DataError(
            f"NTNDArray has no field for dtype {image.dtype}",
            hint="convert to one of " + ", ".join(str(dtype) for dtype in FIELD_OF_DTYPE),
        )
    if image.size == 0:
        raise DataError(f"the image of shape {image.shape} has no pixels")
    return field, np.ascontiguousarray(image).reshape(-1)


def _set_geometry(pv: Any, image: Image) -> None:
    pv.setLong("compressedSize", image.nbytes)
    pv.setLong("uncompressedSize", image.nbytes)
    pv.setStructureArray(
        "dimension",
        [
            {"size": size, "offset": 0, "fullSize": size, "binning": 1, "reverse": False}
            for size in reversed(image.shape)
        ],
    )
