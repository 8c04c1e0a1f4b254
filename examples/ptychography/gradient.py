"""From diffraction patterns and scan positions to the phase gradient, in batches, as a neural network takes them."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from beamcast.pools.frame import Frame, stack


class PhaseGradient:
    """Differential phase contrast: how far the centre of each pattern is from the middle of the detector.

    Eight patterns (or `batch`) go into one call of `infer`; put the call of a network there.
    """

    output: ClassVar[dict[str, Any]] = {
        "x": float,
        "y": float,
        "gradient": list[float],
        "intensity": float,
        "batch": int,
    }

    def __init__(self, *, batch: int = 8) -> None:
        self.batch = batch

    def process_batch(self, frames: list[Frame]) -> list[dict[str, object]]:
        """One result for each pattern, with the position at which it was taken."""
        gradients, intensities = infer(stack(frames))
        return [
            {
                "x": frame.metadata["x"],
                "y": frame.metadata["y"],
                "gradient": gradient,
                "intensity": intensity,
                "batch": len(frames),
            }
            for frame, gradient, intensity in zip(frames, gradients, intensities, strict=True)
        ]


def infer(patterns: NDArray[np.int16]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gradients in pixels, shape (patterns, 2), and intensities of patterns of shape (patterns, rows, columns)."""
    counts = np.clip(patterns, 0, None).astype(np.float64)
    intensity = counts.sum(axis=(1, 2))
    safe = np.maximum(intensity, 1.0)
    rows = np.arange(counts.shape[1]) - (counts.shape[1] - 1) / 2
    columns = np.arange(counts.shape[2]) - (counts.shape[2] - 1) / 2
    down = (counts.sum(axis=2) @ rows) / safe
    across = (counts.sum(axis=1) @ columns) / safe
    return np.column_stack([down, across]), intensity
