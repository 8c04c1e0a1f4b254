"""The frames of an array of more dimensions than one image has, or of several such arrays, by their number.

The first dimensions count frames, the last ones are an image: one in a stack of images, two in a grid scan, as
areaDetector writes it. Which are which is settled once, by what the file says of itself.
"""

import bisect
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from beamcast.core.errors import DataError
from beamcast.sim.payload import Image

# Values of a pixel in the last dimension: red, green, blue, and perhaps how opaque it is.
_COLOURS = (3, 4)


def axes_by_count(shape: Sequence[int], frames: int) -> int | None:
    """How many of the first dimensions of an array count frames, if there are `frames` of them; None where none do.

    Of several possibilities the one with the smallest images, of two dimensions or of three with colours.
    """
    fitting = [axes for axes in range(1, len(shape)) if math.prod(shape[:axes]) == frames]
    plain = [axes for axes in fitting if axes <= len(shape) - image_dimensions(shape)]
    return max(plain, default=None) if plain else max(fitting, default=None)


def image_dimensions(shape: Sequence[int]) -> int:
    """How many dimensions an image has, where only the shape of an array of frames is known."""
    return 3 if len(shape) > 3 and shape[-1] in _COLOURS else 2


class FrameStack:
    """Frames of `parts`: NumPy arrays, memory maps or open HDF5 datasets, one behind the other."""

    def __init__(self, parts: Sequence[Any], *, axes: int, name: str) -> None:
        """`axes`: the first dimensions, which count frames. DataError when there are none, or the parts differ."""
        kinds = {(tuple(part.shape[axes:]), np.dtype(part.dtype).newbyteorder("=")) for part in parts}
        if len(kinds) != 1:
            different = ", ".join(sorted(f"{shape} {dtype}" for shape, dtype in kinds))
            raise DataError(f"{name} holds images that differ: {different}")
        ((self.shape, self.dtype),) = kinds
        counts = [math.prod(part.shape[:axes]) for part in parts]
        self.frames = sum(counts)
        if not self.frames or 0 in self.shape:
            raise DataError(f"{name} holds no frames: its shape is {tuple(parts[0].shape)}")
        self.name = name
        self._parts = tuple(parts)
        self._axes = axes
        self._ends = tuple(itertools.accumulate(counts))

    def image(self, index: int) -> Image:
        """The image of frame `index`, read now; DataError when it can't be."""
        number = bisect.bisect_right(self._ends, index)
        part = self._parts[number]
        place = index - (self._ends[number - 1] if number else 0)
        where = np.unravel_index(place, part.shape[: self._axes])
        try:
            # Files may be big-endian; pvAccess and the processors expect the native order.
            return np.asarray(part[tuple(int(one) for one in where)], self.dtype)
        except OSError as error:
            raise DataError(f"{self.name}: frame {index} can't be read: {error}") from error
