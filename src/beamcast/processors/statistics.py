"""Per-frame statistics and the centre of mass of the intensity."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray


class FrameStatistics:
    """For each image: total, minimum, maximum, mean, standard deviation, centre of mass.

    `threshold`: pixels below it count as zero for the centre of mass (in the image's units; 0: all pixels count).
    The centre of mass is (row, column) in pixels, NaN for an image whose total above the threshold is zero.
    """

    output: ClassVar[dict[str, type]] = {
        "total": float,
        "minimum": float,
        "maximum": float,
        "mean": float,
        "std": float,
        "centre_row": float,
        "centre_column": float,
    }

    def __init__(self, *, threshold: float = 0.0) -> None:
        self.threshold = threshold

    def configure(self, *, threshold: float) -> None:
        """Set a new threshold, from the next frame on."""
        self.threshold = threshold

    def process(self, frame: Any) -> dict[str, float]:
        """The statistics of one image as a dict of the fields in `output`."""
        return statistics(frame.image, threshold=self.threshold)


def statistics(image: NDArray[Any], *, threshold: float = 0.0) -> dict[str, float]:
    """Statistics of an image of shape (rows, columns), any integer or floating dtype."""
    row, column = centre_of_mass(image, threshold=threshold)
    mean = float(image.mean(dtype=np.float64))
    # Sums of squares in float64 are exact enough for 16-bit detectors and spare NumPy's slower two-pass std.
    squares = float(np.einsum("ij,ij->", image, image, dtype=np.float64))
    return {
        "total": mean * image.size,
        "minimum": float(image.min()),
        "maximum": float(image.max()),
        "mean": mean,
        "std": max(squares / image.size - mean * mean, 0.0) ** 0.5,
        "centre_row": row,
        "centre_column": column,
    }


def centre_of_mass(image: NDArray[Any], *, threshold: float = 0.0) -> tuple[float, float]:
    """Centre of the intensity as (row, column) in pixels; (NaN, NaN) where there is none."""
    weights = np.where(image >= threshold, image, 0) if threshold > 0 else image
    by_row = weights.sum(axis=1, dtype=np.float64)
    by_column = weights.sum(axis=0, dtype=np.float64)
    total = float(by_row.sum())
    if total == 0:
        return float("nan"), float("nan")
    rows = float(by_row @ np.arange(by_row.size)) / total
    columns = float(by_column @ np.arange(by_column.size)) / total
    return rows, columns
