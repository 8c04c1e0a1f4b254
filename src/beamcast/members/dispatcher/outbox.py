"""How frames leave the dispatching mirror: each as an update of its rank's record, or several stacked in one.

A stack is open for one rank at a time, since the dispatcher gives ranks turns (`beamcast.core.credit`). It leaves when
it is full, when the next frame is for another rank, and when its first frame has waited for `wait_s`.
"""

import time
from collections.abc import Sequence
from typing import Any, Protocol

from beamcast.pva.first_value import mark
from beamcast.pva.stack import UNFIT, StackWriter


class Outbox(Protocol):
    """Sends frames to ranks. Used under the lock of the post."""

    unfit: str
    """Why a frame could not be sent: it has another structure than the first. The run can't go on."""

    def open(self, probe: Any) -> None:
        """Make the ranks' records like the probe."""

    def extend(self, channels: Sequence[str]) -> None:
        """There are more ranks now: the channels of all, those before as they were."""

    def send(self, rank: int, frame_id: int, pv: Any) -> None:
        """Send a frame, at once or soon."""

    def flush(self, now: float) -> bool:
        """Send what has waited for long enough; whether that was something."""

    def forget(self, rank: int) -> None:
        """A rank is gone: what waits for it goes to others."""


class SingleFrames:
    """Every frame by itself, unchanged; the payload is shared, not copied."""

    def __init__(self, server: Any, channels: Sequence[str], *, id_field: str) -> None:
        self._server = server
        self._channels = channels
        self._id_field = id_field
        self._sample: Any = None
        self.unfit = ""

    def open(self, probe: Any) -> None:
        """Make the ranks' records like the probe, which is no frame of theirs."""
        self._sample = mark(probe.copy(), (self._id_field,))
        for channel in self._channels:
            self._server.addRecord(channel, self._sample.copy())

    def extend(self, channels: Sequence[str]) -> None:
        """More records like those before."""
        for channel in channels[len(self._channels) :]:
            self._server.addRecord(channel, self._sample.copy())
        self._channels = channels

    def send(self, rank: int, frame_id: int, pv: Any) -> None:
        """Send a frame at once."""
        # Checked against the record's structure: it costs nothing that can be measured, and the unchecked call crashes
        # the process when a source comes back with another structure.
        try:
            self._server.update(self._channels[rank], pv)
        except ValueError as error:
            self.unfit = self.unfit or str(error)

    def flush(self, now: float) -> bool:
        """Nothing waits here."""
        return False

    def forget(self, rank: int) -> None:
        """Nothing waits here."""


class StackedFrames:
    """As many frames as fit into a stack, in one update."""

    def __init__(
        self, server: Any, channels: Sequence[str], *, id_field: str, frames: int, wait_s: float
    ) -> None:
        """`frames`: the most that a stack may hold. `wait_s`: how long the first one waits for others."""
        self._server = server
        self._channels = channels
        self._id_field = id_field
        self._frames = frames
        self._wait_s = wait_s
        self._sample: Any = None
        self._writer: StackWriter | None = None
        self._rank = 0
        self._opened_at = 0.0
        self.unfit = ""

    def open(self, probe: Any) -> None:
        """Make the ranks' records like stacks of the probe; DataError when it can't be stacked."""
        self._writer = StackWriter(probe, id_field=self._id_field, frames=self._frames)
        self._writer.add(int(probe[self._id_field]), probe)
        message = self._writer.message()
        self._sample = message.copy()
        for channel in self._channels:
            self._server.addRecord(channel, message.copy())

    def extend(self, channels: Sequence[str]) -> None:
        """More records like those before."""
        for channel in channels[len(self._channels) :]:
            self._server.addRecord(channel, self._sample.copy())
        self._channels = channels

    def send(self, rank: int, frame_id: int, pv: Any) -> None:
        """Put a frame into the stack of its rank."""
        assert self._writer is not None
        if rank != self._rank:
            self._close()
            self._rank = rank
        try:
            if not self._writer.add(frame_id, pv):
                self._close()
                self._writer.add(frame_id, pv)
        except UNFIT as error:
            self.unfit = self.unfit or str(error)
            return
        count = len(self._writer)
        if count == 1:
            self._opened_at = time.monotonic()
        if count >= self._frames:
            self._close()

    def flush(self, now: float) -> bool:
        """Send the stack if its first frame has waited for long enough."""
        if not self._writer or now - self._opened_at < self._wait_s:
            return False
        self._close()
        return True

    def forget(self, rank: int) -> None:
        """What waits for this rank goes to others."""
        if rank == self._rank and self._writer is not None:
            self._writer.forget()

    def _close(self) -> None:
        if not self._writer:
            return
        try:
            self._server.update(self._channels[self._rank], self._writer.message())
        except UNFIT as error:
            self.unfit = self.unfit or str(error)
