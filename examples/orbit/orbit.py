"""From turn-by-turn positions to the orbit."""

from typing import Any, ClassVar

import numpy as np

from beamcast.pools.frame import Frame


class Orbit:
    """The mean and the spread of the beam's position at each monitor, over the turns of one object."""

    output: ClassVar[dict[str, Any]] = {
        "monitors": int,
        "turns": int,
        "orbit": list[float],
        "spread": list[float],
    }

    def process(self, frame: Frame) -> dict[str, Any]:
        """One value for each monitor of the ring, sector after sector, in micrometres."""
        sectors = frame.pv["sectors"]
        positions = [np.reshape(sector["positions"], (-1, sector["monitors"])) for sector in sectors]
        ring = np.concatenate(positions, axis=1, dtype=np.float64)
        return {
            "monitors": ring.shape[1],
            "turns": ring.shape[0],
            "orbit": ring.mean(axis=0),
            "spread": ring.std(axis=0),
        }
