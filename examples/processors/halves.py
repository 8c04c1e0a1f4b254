"""Two outputs for each frame."""

import numpy as np
from numpy.typing import NDArray

from beamcast.pools.frame import Frame


class Halves:
    """The upper and the lower half of each image, each on a channel of its own."""

    outputs = 2
    output = np.ndarray

    def process(self, frame: Frame) -> list[NDArray[np.generic]]:
        """Two results: the first goes to branch 0, the second to branch 1."""
        rows = frame.image.shape[0] // 2
        return [frame.image[:rows], frame.image[rows:]]
