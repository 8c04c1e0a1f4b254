"""What a processor sees of one update: cheap to make, everything else read when it is asked for."""

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamcast.core.errors import DataError
from beamcast.core.ids import ID_BITS, ID_MASK, FrameKey, split_key
from beamcast.core.times import has_time
from beamcast.pva.ndarray import ImageReader

_NEGATIVE = 1 << (ID_BITS - 1)
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
    def parts(self) -> "tuple[Frame, ...]":
        """The parts that a collector has gathered, in the order of their numbers; the frame itself elsewhere."""
        return (self,)

    def beside(self, others: "Sequence[Frame]") -> NDArray[Any] | None:
        """This image and those of `others` as one view; None where they do not lie one behind the other in memory."""
        return None

    @property
    def id(self) -> int:
        """The value of the id field (without the epoch)."""
        folded = self.key & ID_MASK
        # The int32 `uniqueId` of a detector becomes negative when it wraps; keys hold it modulo 2^48.
        return folded if folded < _NEGATIVE else folded - (1 << ID_BITS)

    @property
    def epoch(self) -> int:
        """Which life of the source the frame is from, counted from 0."""
        return split_key(self.key)[0]

    @property
    def image(self) -> NDArray[Any]:
        """The image as a read-only NumPy view of shape (rows, columns) or (planes, rows, columns).

        A compressed image is decoded each time this is read. DataError when the update is not a consistent NTNDArray.
        """
        return self._reader.read(self.pv)

    @property
    def timestamp(self) -> float:
        """Time of the frame in seconds since the POSIX epoch; NaN where the update has none, or it was never set."""
        try:
            stamp = self.pv["timeStamp"]
            seconds, nanoseconds = stamp["secondsPastEpoch"], stamp["nanoseconds"]
        except Exception:  # noqa: BLE001 - the C++ error types are only known once pvaccess is imported
            return float(np.nan)
        return float(seconds + nanoseconds * 1e-9) if has_time(seconds, nanoseconds) else float(np.nan)

    @property
    def stamp(self) -> Any:
        """The time of the frame as a field of an output takes it; now, where the update has none."""
        if self.pv.hasField("timeStamp"):
            stamp = self.pv["timeStamp"]
            if has_time(stamp["secondsPastEpoch"], stamp["nanoseconds"]):
                return stamp
        import pvaccess

        return pvaccess.PvTimeStamp(time.time())


class GatheredFrame(Frame):
    """A frame of which a collector has gathered all parts. As a frame by itself it is its first part."""

    __slots__ = ("_parts",)

    def __init__(self, pvs: Sequence[Any], key: FrameKey, reader: ImageReader) -> None:
        super().__init__(pvs[0], key, reader)
        self._parts = tuple(Frame(pv, key, reader) for pv in pvs)

    @property
    def parts(self) -> tuple[Frame, ...]:
        """All parts, in the order of their numbers."""
        return self._parts


def stack(frames: Sequence[Frame]) -> NDArray[Any]:
    """The images of several frames as one array of shape (frames, rows, columns).

    A view, not to be written to, where the frames have arrived one behind the other in one message (`batch` in the
    workflow); else a copy, since each lies in its own memory. DataError when a frame has no image, or the images differ
    in shape or dtype.
    """
    view = frames[0].beside(frames[1:]) if frames else None
    if view is not None:
        return view
    images = [frame.image for frame in frames]
    kinds = {(image.shape, image.dtype) for image in images}
    if len(kinds) != 1:
        raise DataError(f"{len(images)} images of {len(kinds)} different shapes or dtypes can't be stacked")
    return np.stack(images)
