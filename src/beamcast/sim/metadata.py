"""Simulated metadata: channels that are updated with each frame, whose value proves which frame they belong to."""

from collections.abc import Sequence
from typing import Any

_NS_PER_S = 1_000_000_000
# Room for so many channels in one value.
_CHANNELS = 100


def simulated_value(frame_id: int, channel: int) -> float:
    """The value of channel number `channel` (below 100) at a frame: another one for each frame and each channel."""
    return float(frame_id * _CHANNELS + channel)


class SimulatedMetadata:
    """NTScalar doubles on `server`, an existing `pvaccess.PvaServer`. One thread."""

    def __init__(self, channels: Sequence[str], server: Any) -> None:
        """ValueError for more than 100 channels."""
        if len(channels) > _CHANNELS:
            raise ValueError(f"{len(channels)} simulated metadata channels: at most {_CHANNELS} are possible")
        self.channels = tuple(channels)
        self._server = server
        self._pvs: list[Any] = []

    def serve(self, frame_id: int, timestamp_ns: int) -> None:
        """Add the channels, as they are at a first frame."""
        import pvaccess

        for number, channel in enumerate(self.channels):
            pv = pvaccess.PvObject(
                {"value": pvaccess.DOUBLE, "timeStamp": pvaccess.PvTimeStamp()}, "epics:nt/NTScalar:1.0"
            )
            self._pvs.append(pv)
            self._set(pv, simulated_value(frame_id, number), timestamp_ns)
            self._server.addRecord(channel, pv.copy())

    def publish(self, frame_id: int, timestamp_ns: int) -> None:
        """Update every channel with its value at a frame and the frame's time."""
        for number, channel in enumerate(self.channels):
            pv = self._pvs[number]
            self._set(pv, simulated_value(frame_id, number), timestamp_ns)
            self._server.updateUnchecked(channel, pv)

    @staticmethod
    def _set(pv: Any, value: float, timestamp_ns: int) -> None:
        seconds, nanoseconds = divmod(timestamp_ns, _NS_PER_S)
        pv.setDouble("value", value)
        pv.setLong("timeStamp.secondsPastEpoch", seconds)
        pv.setInt("timeStamp.nanoseconds", nanoseconds)
