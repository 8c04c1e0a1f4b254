"""A filter that can be tuned while it runs: frames below a threshold are dropped."""

import numpy as np
from numpy.typing import NDArray

from beamcast.pools.frame import Frame


class Bright:
    """Passes images whose mean is at least `threshold` (in counts), as float32 with the mean taken away."""

    output = np.ndarray  # every result is an image

    def __init__(self, *, threshold: float = 0.0) -> None:
        self.threshold = threshold
        self.passed = 0

    def configure(self, *, threshold: float) -> None:
        """A new threshold, from the next frame on."""
        self.threshold = threshold

    def process(self, frame: Frame) -> NDArray[np.float32] | None:
        """None is no output: the frame counts as dropped."""
        mean = float(frame.image.mean())
        if mean < self.threshold:
            return None
        self.passed += 1
        return frame.image.astype(np.float32) - np.float32(mean)

    def stats(self) -> dict[str, float]:
        """On the status PV, under userStats."""
        return {"threshold": self.threshold, "passed": self.passed}

    def reset_stats(self) -> None:
        """Count from 0 again."""
        self.passed = 0
