"""What of a frame goes into an HDF5 file: its image, or the fields of an update that has none.

A scalar field is a dataset with an entry for each frame. An array may have another length in each frame, and SWMR knows
no entries of free length: so all values lie one behind the other in `<field>/values`, and `<field>/end` says for each
frame where its own end. Text is cut at 256 bytes. Fields of other kinds (unions, arrays of structures) are left out
and named in the attribute `left_out` of the group.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from beamcast.core.errors import DataError
from beamcast.core.frame_layout import DATA, FIELDS
from beamcast.processors.columns import make_column, put, text_bytes, text_type

Image = np.ndarray[Any, np.dtype[Any]]
Fields = Mapping[str, Any]
Content = Image | Fields

# Saved beside the fields of every frame.
_OURS = ("uniqueId", "timeStamp")
# How pvaccess calls the types of fields, where NumPy calls them otherwise.
_TYPES = {"BOOLEAN": "bool", "BYTE": "int8", "UBYTE": "uint8", "SHORT": "int16", "USHORT": "uint16", "INT": "int32",
          "UINT": "uint32", "LONG": "int64", "ULONG": "uint64", "FLOAT": "float32", "DOUBLE": "float64"}  # fmt: skip


class Contents(Protocol):
    """The part of a file that holds what comes with each frame."""

    def fits(self, content: Content) -> bool:
        """Whether it can be written into this file."""

    def write(self, contents: Sequence[Content], begin: int, end: int) -> None:
        """Set the entries from `begin` to `end`, which become the last ones."""


def content_of(frame: Any) -> Content:
    """The image of a frame, or the fields of one that is no NTNDArray. DataError for an image that can't be read,
    and for an update in which nothing can be saved."""
    try:
        return frame.image  # type: ignore[no-any-return]
    except DataError:
        if frame.pv.hasField("dimension"):
            raise
    fields = _flat(frame.pv.getStructureDict(), frame.pv.toDict())
    if all(value is None for value in fields.values()):
        raise DataError("this update has neither an image nor a number or text that could be saved")
    return fields


def size_bytes(content: Content) -> int:
    """The room that it needs, about."""
    if isinstance(content, np.ndarray):
        return content.nbytes
    return sum(np.asarray(value).nbytes for value in content.values() if value is not None)


class ImageColumn:
    """The images, one chunk for each frame."""

    def __init__(self, file: Any, image: Image, *, options: Mapping[str, Any]) -> None:
        """Make the dataset for images like this one; `options`: how h5py compresses it."""
        self._shape, self._dtype, self._compressed = image.shape, image.dtype, bool(options)
        self._data = file.create_dataset(
            DATA,
            shape=(0, *image.shape),
            maxshape=(None, *image.shape),
            chunks=(1, *image.shape),
            dtype=image.dtype,
            **options,
        )
        self._data.parent.attrs["signal"] = "data"

    def __str__(self) -> str:
        return f"its images are {self._shape} {self._dtype}"

    def fits(self, content: Content) -> bool:
        """Whether an image has the shape and dtype of the file."""
        return (
            isinstance(content, np.ndarray) and content.shape == self._shape and content.dtype == self._dtype
        )

    def write(self, contents: Sequence[Content], begin: int, end: int) -> None:
        """Set the images from `begin` to `end`."""
        self._data.resize(end, axis=0)
        for index, image in enumerate(contents, begin):
            if self._compressed:
                self._data[index] = image
            else:
                # Not through the chunk cache: a third to an eighth of the time, since nothing is copied.
                start = (index, *(0 for _ in self._shape))
                self._data.id.write_direct_chunk(start, np.ascontiguousarray(image))


class FieldColumns:
    """The fields, a dataset for each, or two for an array."""

    def __init__(self, file: Any, fields: Fields) -> None:
        """Make the datasets for fields like these."""
        group = file.create_group(FIELDS)
        group.attrs["NX_class"] = "NXcollection"
        self._kinds = _kinds(fields)
        left_out = [name for name, value in fields.items() if value is None]
        if left_out:
            group.attrs["left_out"] = left_out
        self._scalars = {
            name: make_column(group, name, dtype) for name, (dtype, array) in self._kinds.items() if not array
        }
        self._arrays = {
            name: _ArrayColumn(group, name, dtype) for name, (dtype, array) in self._kinds.items() if array
        }

    def __str__(self) -> str:
        return f"its fields are {', '.join(self._kinds)}"

    def fits(self, content: Content) -> bool:
        """Whether these are fields of the same names and types."""
        return not isinstance(content, np.ndarray) and _kinds(content) == self._kinds

    def write(self, contents: Sequence[Any], begin: int, end: int) -> None:
        """Set the entries from `begin` to `end`."""
        for name, column in self._scalars.items():
            put(column, begin, end, np.asarray([_stored(one[name]) for one in contents], column.dtype))
        for name, arrays in self._arrays.items():
            arrays.write([one[name] for one in contents], begin, end)


class _ArrayColumn:
    """Arrays of any length: their values one behind the other, and where those of each frame end."""

    def __init__(self, group: Any, name: str, dtype: Any) -> None:
        self._values = make_column(group, f"{name}/values", dtype)
        self._ends = make_column(group, f"{name}/end", np.dtype(np.int64))
        self._end = 0

    def write(self, arrays: Sequence[Any], begin: int, end: int) -> None:
        ends = self._end + np.cumsum([len(one) for one in arrays])
        values = (
            [_stored(value) for one in arrays for value in one]
            if self._values.dtype.kind == "S"
            else (np.concatenate([np.asarray(one, self._values.dtype) for one in arrays]))
        )
        put(self._values, self._end, int(ends[-1]), np.asarray(values, self._values.dtype))
        put(self._ends, begin, end, ends)
        self._end = int(ends[-1])


def _flat(types: Mapping[str, Any], values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """The fields under "a.b" names, with the dtypes that they have on the wire; None for what can't be saved."""
    flat: dict[str, Any] = {}
    for name, kind in types.items():
        where = f"{path}{name}"
        if where in _OURS:
            continue
        if isinstance(kind, Mapping):
            flat |= _flat(kind, values[name], f"{where}.")
        else:
            flat[where] = _value(kind, values[name])
    return flat


def _value(kind: Any, value: Any) -> Any:
    element = kind[0] if isinstance(kind, list) else kind
    if isinstance(element, Mapping | tuple):
        return None
    if element.name == "STRING":
        return value
    dtype = np.dtype(_TYPES[element.name])
    return np.asarray(value, dtype) if isinstance(kind, list) else dtype.type(value)


def _kinds(fields: Fields) -> dict[str, tuple[Any, bool]]:
    """The dtype of each field, and whether it is an array; without those that can't be saved."""
    kinds: dict[str, tuple[Any, bool]] = {}
    for name, value in fields.items():
        if isinstance(value, str | list):
            kinds[name] = (text_type, isinstance(value, list))
        elif value is not None:
            kinds[name] = (value.dtype, isinstance(value, np.ndarray))
    return kinds


def _stored(value: Any) -> Any:
    return text_bytes(value) if isinstance(value, str) else value
