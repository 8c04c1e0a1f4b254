"""Where simulated frames come from: made up, an .npy file, or an HDF5 dataset. Files are played in a loop."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from beamcast.core.errors import DataError, UsageError
from beamcast.sim.payload import Image, PayloadMaker

# Frames that repeat unchanged are kept ready to publish up to this much memory, else copied one by one.
_CYCLE_BUDGET_BYTES = 512 * 2**20


class FrameSource(Protocol):
    """Gives the image for each frame id."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of every frame."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of every frame."""

    def frame(self, frame_id: int) -> Image:
        """The image of ``frame_id`` (0 or more, or -1 for the probe); only valid until the next call."""

    def cycle(self) -> Sequence[Image] | None:
        """All images, image i for ids i, i+n, …, if they repeat unchanged and fit in memory; else None."""


class RandomSource:
    """Frames made by a `PayloadMaker`; ``stamp=False`` leaves the patterns as they are and saves the copy."""

    def __init__(self, maker: PayloadMaker, *, stamp: bool = True) -> None:
        self.maker = maker
        self._stamp = stamp
        self.shape = maker.shape
        self.dtype = maker.dtype

    def frame(self, frame_id: int) -> Image:
        if self._stamp:
            return self.maker.borrow(frame_id)
        return self.maker.patterns[frame_id % len(self.maker.patterns)]

    def cycle(self) -> Sequence[Image] | None:
        return None if self._stamp else self.maker.patterns


class StackSource:
    """Frames of a stack (frames, rows, cols): a NumPy array, a memory map or an open HDF5 dataset."""

    def __init__(self, stack: Any, *, name: str) -> None:
        if len(stack.shape) != 3 or 0 in stack.shape:
            raise DataError(
                f"{name} has shape {tuple(stack.shape)}; needed are (rows, cols) or (frames, rows, cols)"
            )
        self._stack = stack
        self.frames = int(stack.shape[0])
        self.shape = (int(stack.shape[1]), int(stack.shape[2]))
        # Files may be big-endian; pvAccess and the processors expect the native order.
        self.dtype = np.dtype(stack.dtype).newbyteorder("=")

    def frame(self, frame_id: int) -> Image:
        return np.asarray(self._stack[frame_id % self.frames], dtype=self.dtype)

    def cycle(self) -> Sequence[Image] | None:
        size_bytes = self.frames * self.shape[0] * self.shape[1] * self.dtype.itemsize
        if size_bytes > _CYCLE_BUDGET_BYTES:
            return None
        return tuple(self.frame(index) for index in range(self.frames))


def open_source(path: Path, dataset: str | None = None) -> StackSource:
    """Frames from an .npy file, or from ``dataset`` of an HDF5 file (not needed if only one can be meant).

    A two-dimensional array is one frame. Raises `DataError` for a file that cannot be used, `UsageError` if
    h5py is missing or the dataset must be named.
    """
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    if path.suffix == ".npy":
        return StackSource(_as_stack(_load_npy(path)), name=str(path))
    return _open_hdf5(path, dataset)


def _load_npy(path: Path) -> Image:
    try:
        array: Image = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise DataError(f"{path} is not an .npy file of numbers: {error}") from error
    return array


def _as_stack(array: Any) -> Any:
    return array[np.newaxis] if len(array.shape) == 2 else array


def _open_hdf5(path: Path, dataset: str | None) -> StackSource:
    try:
        import h5py
    except ImportError as error:
        raise UsageError("reading HDF5 files needs h5py", hint="pip install 'beamcast[files]'") from error
    # Importing it registers the compressions detectors write (bitshuffle, zstd); plain files work without.
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401
    try:
        file = h5py.File(path, "r")  # Stays open with the source, which reads from it.
    except OSError as error:
        raise DataError(f"{path} cannot be read as HDF5: {error}") from error
    name = dataset or _only_dataset(file, h5py.Dataset, path)
    if not isinstance(file.get(name), h5py.Dataset):
        raise DataError(
            f"{path} has no dataset {name!r}; it has {', '.join(_datasets(file, h5py.Dataset)) or 'none'}"
        )
    found = file[name]
    return StackSource(found[()][np.newaxis] if found.ndim == 2 else found, name=f"{path}:{name}")


def _only_dataset(file: Any, kind: Any, path: Path) -> str:
    names = _datasets(file, kind)
    stacks = [name for name in names if file[name].ndim == 3] or names
    if len(stacks) != 1:
        raise UsageError(
            f"{path} has {len(stacks)} datasets that could hold frames: {', '.join(stacks)}", hint="name one"
        )
    return stacks[0]


def _datasets(file: Any, kind: Any) -> list[str]:
    names: list[str] = []

    def note(name: str, item: Any) -> None:
        if type(item) is kind and item.ndim in (2, 3) and item.dtype.kind in "iuf":
            names.append(name)

    file.visititems(note)
    return names
