"""The small datasets beside the images of an HDF5 file: one entry for each frame.

SWMR allows neither new datasets nor text of free length, so the first frame settles what metadata there is, and text is
cut at 256 bytes. Numbers are kept as float64, NaN where a frame has none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Entries in a chunk: 8 KiB of ids.
_CHUNK = 1024
_TEXT_BYTES = 256
text_type = np.dtype(f"S{_TEXT_BYTES}")


def make_column(group: Any, name: str, dtype: Any, width: tuple[int, ...] = ()) -> Any:
    """A dataset without entries; `width` is the shape of an entry."""
    entries = max(1, _CHUNK // max(1, int(np.prod(width))))
    return group.create_dataset(
        name, shape=(0, *width), maxshape=(None, *width), chunks=(entries, *width), dtype=dtype
    )


def put(column: Any, begin: int, end: int, values: Any) -> None:
    """Set the entries from `begin` to `end`, which become the last ones."""
    column.resize(end, axis=0)
    column[begin:end] = values


def text_bytes(text: str) -> bytes:
    """Text as a column holds it."""
    return text.encode()[:_TEXT_BYTES]


class MetadataColumns:
    """The metadata of the frames, one dataset for each name. `ignored`: values that had no place."""

    def __init__(self, group: Any, first: Mapping[str, Any]) -> None:
        """Make the datasets for metadata like `first`, in an HDF5 group."""
        self.ignored = 0
        made = {name: _column_for(group, name, value) for name, value in first.items()}
        self._columns = {name: column for name, column in made.items() if column is not None}

    def write(self, metadata: Sequence[Mapping[str, Any]], begin: int, end: int) -> None:
        """Set the entries from `begin` to `end`."""
        for name, column in self._columns.items():
            values = [self._entry(column, one.get(name)) for one in metadata]
            put(column, begin, end, np.asarray(values, column.dtype))
        for one in metadata:
            self.ignored += len(one.keys() - self._columns.keys())

    def _entry(self, column: Any, value: Any) -> Any:
        if column.dtype.kind == "S":
            return text_bytes(value) if isinstance(value, str) else b""
        width = column.shape[1:]
        array = None if value is None else _numbers(value)
        if array is not None and array.shape == width:
            return array
        self.ignored += value is not None
        return np.full(width, np.nan)


def _column_for(group: Any, name: str, value: Any) -> Any:
    """A dataset for values like this one; None where there can't be one."""
    # A slash would make groups: PV names may hold them. A dot is the group itself.
    path = name.replace("/", "|")
    if path in group or not path.strip("."):
        return None
    if isinstance(value, str):
        return make_column(group, path, text_type)
    array = _numbers(value)
    return None if array is None else make_column(group, path, np.dtype(np.float64), array.shape)


def _numbers(value: Any) -> Any:
    """A scalar or a list of numbers as float64; None for anything else."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    return array if array.ndim <= 1 and array.size else None
