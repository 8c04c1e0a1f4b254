"""Where simulated frames come from: made up, an .npy file, or an HDF5 dataset. Files are played in a loop."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from beamcast.config.workflow import Simulation
from beamcast.core.errors import DataError, UsageError
from beamcast.sim.hdf5 import candidates, image_datasets, open_hdf5
from beamcast.sim.payload import Image, PayloadMaker
from beamcast.sim.stack import FrameStack, image_dimensions

# Frames that repeat unchanged are kept ready to publish up to this much memory, else copied one by one.
_CYCLE_BUDGET_BYTES = 512 * 2**20


class FrameSource(Protocol):
    """Gives the image for each frame id."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, cols) of every frame, or (rows, cols, colours)."""

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
    """Frames of a stack: NumPy arrays, memory maps or open HDF5 datasets, whose last two dimensions are an image (three
    with colours) and whose others count frames. Played in a loop."""

    def __init__(self, *parts: Any, name: str) -> None:
        """DataError for arrays that hold no frames, or frames of different shapes."""
        shape = tuple(parts[0].shape)
        if len(shape) < 2 or 0 in shape:
            raise DataError(f"{name} has shape {shape}; needed are (rows, cols) or (frames, rows, cols)")
        self._stack = FrameStack(parts, axes=len(shape) - image_dimensions(shape), name=name)
        self.name = name
        self.frames = self._stack.frames
        self.shape = self._stack.shape
        self.dtype = self._stack.dtype

    def frame(self, frame_id: int) -> Image:
        return self._stack.image(frame_id % self.frames)

    def cycle(self) -> Sequence[Image] | None:
        size_bytes = self.frames * math.prod(self.shape) * self.dtype.itemsize
        if size_bytes > _CYCLE_BUDGET_BYTES:
            return None
        return tuple(self.frame(index) for index in range(self.frames))


def frame_source(simulation: Simulation, *, base: Path) -> FrameSource:
    """The images of a simulation; files are relative to `base`, the workflow's folder. Errors as of `open_source`."""
    if simulation.file is not None:
        return open_source(base / simulation.file, simulation.dataset)
    return RandomSource(PayloadMaker(simulation.shape, simulation.dtype, simulation.seed))


def open_source(path: Path, dataset: str | None = None) -> StackSource:
    """Frames from an .npy file, or from ``dataset`` of an HDF5 file (not needed if only one can be meant), which may be
    a group of numbered datasets.

    A two-dimensional array is one frame. Raises `DataError` for a file that cannot be used, `UsageError` if
    h5py is missing or the dataset must be named.
    """
    if path.suffix != ".npy":
        return _open_hdf5(path, dataset)
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    return StackSource(_load_npy(path), name=str(path))


def _load_npy(path: Path) -> Image:
    try:
        array: Image = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise DataError(f"{path} is not an .npy file of numbers: {error}") from error
    return array


def _open_hdf5(path: Path, dataset: str | None) -> StackSource:
    file = open_hdf5(path)  # Stays open with the source, which reads from it.
    name = dataset or _only_candidate(file, path)
    parts = image_datasets(file, name)
    if parts is None:
        raise DataError(f"{path} has no dataset {name!r}; it has {', '.join(candidates(file)) or 'none'}")
    return StackSource(*parts, name=f"{path}:{name}")


def _only_candidate(file: Any, path: Path) -> str:
    names = candidates(file)
    stacks = [name for name in names if _dimensions(file, name) >= 3] or names
    if len(stacks) != 1:
        raise UsageError(
            f"{path} has {len(stacks)} datasets that could hold frames: {', '.join(stacks)}", hint="name one"
        )
    return stacks[0]


def _dimensions(file: Any, name: str) -> int:
    return max((len(part.shape) for part in image_datasets(file, name) or ()), default=0)
