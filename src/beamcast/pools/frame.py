"""What a processor sees of one update: cheap to make, everything else read when it is asked for."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamcast.core.ids import FrameKey, split_key
from beamcast.pva.ndarray import ImageReader

NO_METADATA: Mapping[str, Any] = MappingProxyType({})


class Frame:
    """One update of the input channel.

    Made once for each frame on the frame path, so it holds three references and computes on access. A frame and
    its image stay valid after `process` returns: the payload is shared, not copied, and never written again.
    """

    __slots__ = ("_reader", "key", "metadata", "pv")

    def __init__(
        self, pv: Any, key: FrameKey, reader: ImageReader, metadata: Mapping[str, Any] = NO_METADATA
    ) -> None:
        self.pv = pv
        self.key = key
        self.metadata = metadata
        self._reader = reader

    @property
    def id(self) -> int:
        """The value of the id field (without the epoch)."""
        return split_key(self.key)[1]

    @property
    def epoch(self) -> int:
        """Which life of the source the frame is from, counted from 0."""
        return split_key(self.key)[0]

    @property
    def image(self) -> NDArray[Any]:
        """The image as a read-only NumPy view of shape (rows, columns) or (planes, rows, columns); DataError when
        the update is not a consistent, uncompressed NTNDArray."""
        return self._reader.read(self.pv)

    @property
    def timestamp(self) -> float:
        """Time of the frame in seconds since the POSIX epoch; NaN where the update has none."""
        try:
            stamp = self.pv["timeStamp"]
            return float(stamp["secondsPastEpoch"] + stamp["nanoseconds"] * 1e-9)
        except Exception:  # noqa: BLE001 - the C++ error types are only known once pvaccess is imported
            return float(np.nan)
