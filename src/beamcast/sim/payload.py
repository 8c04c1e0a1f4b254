"""A payload that proves itself: a received image alone tells its frame id, and whether a byte changed.

The image is one of a few prepared patterns (smooth noise-floor plus a bright spot that walks around the
middle as ids go up), chosen by frame id, with a stamp over its first `STAMP_VALUES` values. So making a
frame costs a copy at most, checking it one comparison, and the centre of mass is worth computing.

The stamp holds one byte per *value*, not per byte: raw bytes seen as floats would be NaN or 1e300 and spoil
every sum.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamcast.core.errors import DataError, UsageError

Image = np.ndarray[Any, np.dtype[Any]]

STAMP_VALUES = 32
_MAGIC = b"beamcast"
_BODY = struct.Struct("<8sqq")
_CHECK = struct.Struct("<Q")
# Enough that neighbouring frames differ; more would only cost start-up time and memory.
_MAX_PATTERNS = 16
_PATTERN_BUDGET_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class ImageStatistics:
    """What a statistics processor should find in one image; intensities as float64, positions in pixels."""

    total: float
    minimum: float
    maximum: float
    mean: float
    std: float
    center_row: float
    center_col: float

    @classmethod
    def of(cls, image: Image) -> "ImageStatistics":
        """Statistics of a (rows, cols) image; the centre of mass is NaN where the total is 0."""
        rows = image.sum(axis=1, dtype=np.float64)
        cols = image.sum(axis=0, dtype=np.float64)
        total = float(rows.sum())
        return cls(
            total=total,
            minimum=float(image.min()),
            maximum=float(image.max()),
            mean=float(image.mean(dtype=np.float64)),
            std=float(image.std(dtype=np.float64)),
            center_row=float(rows @ np.arange(rows.size)) / total if total else float("nan"),
            center_col=float(cols @ np.arange(cols.size)) / total if total else float("nan"),
        )


class PayloadMaker:
    """Makes and verifies the images of one (shape, dtype, seed); equal arguments make equal images anywhere.

    ``shape`` is (rows, cols); ``dtype`` any NumPy integer or float of native byte order. Images of fewer
    than `STAMP_VALUES` values carry no stamp (``stamped`` is False): then frames that share a pattern can't
    be told apart.
    """

    def __init__(self, shape: tuple[int, int], dtype: np.dtype[Any] | type | str, seed: int) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        if self.dtype.kind not in "iuf" or not self.dtype.isnative:
            raise UsageError(
                f"cannot make images of dtype {self.dtype}; choose a native integer or float type"
            )
        if min(shape) < 1:
            raise UsageError(f"cannot make images of shape {shape}; rows and columns are at least 1")
        self.seed = seed
        self.stamped = shape[0] * shape[1] >= STAMP_VALUES
        self.patterns = tuple(_patterns(shape, self.dtype, seed))

    def make(self, frame_id: int) -> Image:
        """The image of ``frame_id``, an array of its own."""
        return self.borrow(frame_id).copy()

    def borrow(self, frame_id: int) -> Image:
        """The image of ``frame_id`` without a copy: read it, and before the next `make` or `borrow`."""
        image = self.patterns[frame_id % len(self.patterns)]
        if self.stamped:
            image.reshape(-1)[:STAMP_VALUES] = self._stamp(frame_id)
        return image

    def verify(self, image: Image, frame_id: int) -> bool:
        """Whether ``image`` is exactly what `make` makes for ``frame_id``: shape, dtype and every byte."""
        if image.shape != self.shape or image.dtype != self.dtype:
            return False
        flat = np.ascontiguousarray(image).reshape(-1)
        pattern = self.patterns[frame_id % len(self.patterns)].reshape(-1)
        start = STAMP_VALUES if self.stamped else 0
        if self.stamped and not np.array_equal(flat[:start], self._stamp(frame_id)):
            return False
        return _same_bytes(flat[start:], pattern[start:])

    def expected_statistics(self, frame_id: int) -> ImageStatistics:
        """Statistics of the image of ``frame_id``, stamp included."""
        return ImageStatistics.of(self.borrow(frame_id))

    def _stamp(self, frame_id: int) -> Image:
        body = _BODY.pack(_MAGIC, frame_id, self.seed)
        return np.frombuffer(body + _CHECK.pack(zlib.crc32(body)), np.uint8).astype(self.dtype)


def read_stamp(image: Image) -> tuple[int, int]:
    """Frame id and seed as the stamp in ``image`` says; raises `DataError` if there is no whole stamp."""
    with np.errstate(invalid="ignore"):
        raw = image.reshape(-1)[:STAMP_VALUES].astype(np.uint8).tobytes()
    body, check = raw[: _BODY.size], raw[_BODY.size :]
    if len(check) < _CHECK.size or _CHECK.unpack(check) != (zlib.crc32(body),) or not body.startswith(_MAGIC):
        raise DataError(
            "the image carries no valid stamp: it is not from a simulator that stamps, or was changed"
        )
    _, frame_id, seed = _BODY.unpack(body)
    return frame_id, seed


def _patterns(shape: tuple[int, int], dtype: np.dtype[Any], seed: int) -> list[Image]:
    size_bytes = shape[0] * shape[1] * dtype.itemsize
    count = min(_MAX_PATTERNS, max(2, _PATTERN_BUDGET_BYTES // size_bytes))
    rng = np.random.default_rng(seed)
    return [_pattern(rng, shape, dtype, turn=index / count) for index in range(count)]


def _pattern(rng: np.random.Generator, shape: tuple[int, int], dtype: np.dtype[Any], *, turn: float) -> Image:
    # int8 holds 127: noise and spot together must stay below.
    noise, peak = (16, 100) if dtype.itemsize == 1 else (100, 4000)
    rows, cols = shape
    angle = 2 * np.pi * turn
    spot = np.outer(_bell(rows, 0.5 + 0.25 * np.sin(angle)), _bell(cols, 0.5 + 0.25 * np.cos(angle)))
    floor = rng.integers(0, noise, shape, dtype=np.int8 if noise < 128 else np.int16)
    return np.asarray(floor + peak * spot).astype(dtype)


def _bell(size: int, center: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    distance = np.arange(size, dtype=np.float32) - np.float32(center * (size - 1))
    return np.asarray(np.exp(-0.5 * np.square(distance / np.float32(max(1.0, size / 16)))), dtype=np.float32)


def _same_bytes(left: Image, right: Image) -> bool:
    # Bytes, not values: NaN equals nothing, and -0.0 equals 0.0. Eight at a time where they divide.
    unit = np.uint64 if left.nbytes % 8 == 0 else np.uint8
    return bool(np.array_equal(left.view(unit), right.view(unit)))
