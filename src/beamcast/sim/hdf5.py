"""HDF5 files with frames in them: opening one, and finding its datasets, also behind links to other files.

Detectors write their images in several files and link them in a master file (Eiger: `entry/data/data_000001` and so
on). Such numbered datasets are taken together, under the name of their group.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from beamcast.core.errors import DataError, UsageError

_NUMBERED = re.compile(r"data_([0-9]+)")
# Links may lead in circles.
_DEEPEST = 12
# Of an Eiger's data file: the number of its first image.
_FIRST_NUMBER = "image_nr_low"


def open_hdf5(path: Path) -> Any:
    """The open file; DataError when it can't be read, UsageError when h5py is missing."""
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    try:
        import h5py
    except ImportError as error:
        raise UsageError("reading HDF5 files needs h5py", hint="pip install 'beamcast[files]'") from error
    # Importing it registers the compressions detectors write (bitshuffle, zstd); plain files work without.
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401
    try:
        return h5py.File(path, "r")
    except OSError as error:
        # Not closed by its writer, which may be at it still.
        with suppress(OSError):
            return h5py.File(path, "r", swmr=True)
        raise DataError(f"{path} cannot be read as HDF5: {error}") from error


def dataset(file: Any, name: str) -> Any:
    """The dataset of that name; None where there is none."""
    import h5py

    found = _opened(file, name)
    return found if isinstance(found, h5py.Dataset) else None


def image_datasets(file: Any, name: str) -> list[Any] | None:
    """The dataset of that name, or the numbered datasets of the group of that name in their order; None where it is
    neither. DataError when one of them is in a file that is not there."""
    import h5py

    found = _opened(file, name)
    if isinstance(found, h5py.Dataset):
        return [found]
    numbered = _numbered(found) if isinstance(found, h5py.Group) else []
    for part in numbered:
        if _opened(found, part) is None:
            raise DataError(_missing(file, found, part), hint="put the files of a recording into one folder")
    return [found[part] for part in numbered] or None


def candidates(file: Any) -> list[str]:
    """The names of what may hold frames: datasets of numbers with two dimensions or more, groups of numbered ones."""
    return sorted(set(_walk(file, "", 0)))


def first_numbers(parts: list[Any]) -> list[int] | None:
    """The number of the first image of each dataset, as an Eiger writes it; None where one of them has none."""
    numbers = [part.attrs.get(_FIRST_NUMBER) for part in parts]
    return None if any(number is None for number in numbers) else [int(number) for number in numbers]


def _walk(group: Any, path: str, depth: int) -> Iterator[str]:
    import h5py

    numbered = _numbered(group)
    if numbered:
        yield path or "/"
    for name in group if depth < _DEEPEST else ():
        item: Any = None if name in numbered else _opened(group, name)
        below = f"{path}/{name}" if path else name
        # Not of a type of its own, such as a named one.
        if item is not None and type(item) is h5py.Dataset and item.ndim >= 2 and item.dtype.kind in "iuf":
            yield below
        elif isinstance(item, h5py.Group):
            yield from _walk(item, below, depth + 1)


def _numbered(group: Any) -> list[str]:
    names = [(int(match[1]), name) for name in group if (match := _NUMBERED.fullmatch(name))]
    return [name for _, name in sorted(names)]


def _opened(group: Any, name: str) -> Any:
    """What a name leads to, through links; None where it leads nowhere."""
    try:
        return group[name]
    except (KeyError, OSError, RuntimeError):
        return None


def _missing(file: Any, group: Any, name: str) -> str:
    import h5py

    link = group.get(name, getlink=True)
    target = (
        f"in {link.filename}, which can't be opened" if isinstance(link, h5py.ExternalLink) else "not there"
    )
    return f"{file.filename}: {group.name}/{name} is {target}"
