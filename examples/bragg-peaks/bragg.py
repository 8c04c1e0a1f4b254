"""Finding Bragg peaks and fitting their positions, one list for each frame."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from beamcast.pools.frame import Frame

# The smoothing by (1, 2, 1) / 4 in both directions widens a peak: its variance grows by this, in pixels².
SMOOTHING_VARIANCE = 0.5


class BraggPeaks:
    """Positions (pixels), heights and widths of all peaks above `threshold` counts over the background.

    A peak is a local maximum of the smoothed frame; a parabola through the logarithms of it and its neighbours gives
    the centre of the Gaussian. Put a network in the place of `fit` where that is not good enough.
    """

    output: ClassVar[dict[str, Any]] = {
        "count": int,
        "row": list[float],
        "column": list[float],
        "height": list[float],
        "width": list[float],
    }

    def __init__(self, *, threshold: float = 60.0) -> None:
        self._threshold = threshold
        self._found = 0

    def configure(self, *, threshold: float) -> None:
        """While the run goes on: `beamcast control RUN configure --pool peaks threshold=100`."""
        self._threshold = threshold

    def process(self, frame: Frame) -> dict[str, object]:
        """The peaks of one frame, from the top to the bottom."""
        image = frame.image.astype(np.float64)
        signal = smoothed(image - np.median(image))
        rows, columns = maxima(signal, self._threshold)
        row, height, width = fit(signal, rows, columns, axis=0)
        column, _, _ = fit(signal, rows, columns, axis=1)
        self._found += len(rows)
        return {"count": len(rows), "row": row, "column": column, "height": height, "width": width}

    def stats(self) -> dict[str, int]:
        """Peaks found since the start; on the status PV of each rank."""
        return {"peaks": self._found}


def smoothed(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """The frame, less noisy: a binomial filter over 3 by 3 pixels; the border stays as it is."""
    result = image.copy()
    result[1:-1] = (image[:-2] + 2 * image[1:-1] + image[2:]) / 4
    down = result.copy()
    result[:, 1:-1] = (down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]) / 4
    return result


def maxima(signal: NDArray[np.float64], threshold: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pixels that are above `threshold` and not below any of their eight neighbours."""
    centre = signal[1:-1, 1:-1]
    good = centre > threshold
    height, width = signal.shape
    for down in range(3):
        for across in range(3):
            beside = signal[down : height - 2 + down, across : width - 2 + across]
            # Of two equal neighbours one is the peak: the later one.
            if (down, across) != (1, 1):
                good &= centre > beside if (down, across) > (1, 1) else centre >= beside
    rows, columns = np.nonzero(good)
    return rows + 1, columns + 1


def fit(
    signal: NDArray[np.float64], rows: NDArray[np.intp], columns: NDArray[np.intp], *, axis: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(centre, height, width) of each peak along one axis, of the Gaussian through three pixels."""
    step = np.array([1, 0] if axis == 0 else [0, 1])
    low, middle, high = (
        np.log(np.maximum(signal[rows + shift * step[0], columns + shift * step[1]], 1e-3))
        for shift in (-1, 0, 1)
    )
    curvature = np.minimum(low + high - 2 * middle, -1e-6)
    offset = (high - low) / (-2 * curvature)
    variance = -1 / curvature
    centre = (rows if axis == 0 else columns) + offset
    return centre, np.exp(middle), np.sqrt(np.maximum(variance - SMOOTHING_VARIANCE, 0.0))
