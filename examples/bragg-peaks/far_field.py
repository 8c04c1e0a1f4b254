"""Far-field diffraction frames whose spots are known from the frame's id: a detector for a laptop."""

import numpy as np
from numpy.typing import NDArray

from beamcast.pools.frame import Frame

BACKGROUND = 20.0
WIDTH = 1.6  # of a spot, standard deviation in pixels


def spots_of(frame_id: int, shape: tuple[int, int], count: int) -> NDArray[np.float64]:
    """Row, column and height of each spot of a frame, shape (count, 3): at least 9 pixels apart."""
    random = np.random.default_rng(frame_id)
    side = int(np.ceil(np.sqrt(count)))
    cells = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), axis=-1).reshape(-1, 2)[
        :count
    ]
    pitch = np.array(shape) / side
    corner = (cells + 0.5) * pitch
    jitter = random.uniform(-0.5, 0.5, (count, 2)) * (pitch - 9)
    return np.column_stack([corner + jitter, random.uniform(300, 3000, count)])


class FarField:
    """Turns each update into a frame with `spots` Gaussian spots on a noisy background."""

    output = np.ndarray

    def __init__(self, *, spots: int = 25) -> None:
        self._spots = spots

    def process(self, frame: Frame) -> NDArray[np.uint16]:
        """The frame of this id, of the same shape as the image that came."""
        rows, columns = shape = frame.image.shape
        expected = np.full(shape, BACKGROUND)
        for row, column, height in spots_of(frame.id, (rows, columns), self._spots):
            down = np.exp(-((np.arange(rows) - row) ** 2) / (2 * WIDTH**2))
            across = np.exp(-((np.arange(columns) - column) ** 2) / (2 * WIDTH**2))
            expected += height * np.outer(down, across)
        return np.random.default_rng(frame.id).poisson(expected).astype(np.uint16)
