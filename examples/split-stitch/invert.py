"""Work on tiles: here the negative of the image, which can be checked pixel by pixel."""

from typing import Any

import numpy as np

from beamcast.pools.frame import Frame
from beamcast.processors.tiles import OwnTile


class Invert:
    """The negative of an image, or of a tile of one, of unsigned pixels."""

    output = np.ndarray

    def process(self, frame: Frame) -> Any:
        """The negative."""
        return np.bitwise_not(frame.image)


class InvertOwnTile(OwnTile):
    """Takes this rank's tile of each image, and makes its negative."""

    def process(self, frame: Frame) -> Any:
        """The negative of the tile."""
        return np.bitwise_not(super().process(frame))
