"""Where each held frame waits: the lanes of the dispatcher.

The choice: a frame stands in the one lane that its state names, and only here does it change lanes. Frames to be sent
again go before those never sent.
"""

from beamcast.core.credit import RankCredit
from beamcast.core.replay import FrameState, HeldFrame, ReplayBuffer, ReplayLimits
from beamcast.core.resend import ResendLane


class FrameLanes:
    """The held frames by state. One thread."""

    def __init__(self, limits: ReplayLimits) -> None:
        self.buffer = ReplayBuffer(limits)
        self.frames = self.buffer.frames
        """Every held frame by key."""
        self.processed: dict[int, HeldFrame] = {}
        """In the order of the acks."""
        self.again = ResendLane()
        self.alone = ResendLane()

    @property
    def waiting_frames(self) -> int:
        """Frames in memory that no rank has."""
        return len(self.buffer.waiting) + len(self.again) + len(self.alone)

    @property
    def in_flight_frames(self) -> int:
        """Frames that a rank has."""
        elsewhere = self.waiting_frames + len(self.processed) + self.buffer.spilled_frames
        return len(self.frames) - elsewhere

    def first(self) -> HeldFrame | None:
        """Return the frame whose turn it is; those to be sent alone are another matter."""
        if self.again:
            return self.frames[self.again.first]
        for frame in self.buffer.waiting.values():
            return frame
        return None

    def put_in_flight(self, frame: HeldFrame, holder: RankCredit) -> None:
        """A rank has the frame."""
        self._leave(frame)
        frame.state, frame.holder = FrameState.IN_FLIGHT, holder

    def put_processed(self, frame: HeldFrame, now: float) -> None:
        """Its holder has acked it: it is no poison, whatever happened before."""
        self._leave(frame)
        frame.strikes, frame.was_alone = 0, False
        frame.state, frame.processed_at = FrameState.PROCESSED, now
        self.processed[frame.key] = frame

    def put_again(self, frame: HeldFrame, *, alone: bool) -> None:
        """The frame waits to be sent again, alone or beside others."""
        self._leave(frame)
        frame.state, frame.holder = (FrameState.ALONE if alone else FrameState.AGAIN), None
        (self.alone if alone else self.again).add(frame.key)

    def overdue(self, processed_before: float) -> list[HeldFrame]:
        """Return the frames acked by then whose result has not arrived."""
        overdue = []
        for frame in self.processed.values():
            if frame.processed_at > processed_before:
                break
            overdue.append(frame)
        return overdue

    def forget(self, frame: HeldFrame) -> None:
        """Take a frame out for good."""
        if frame.state is FrameState.PROCESSED:
            del self.processed[frame.key]
        elif frame.state is not FrameState.WAITING:
            self._leave(frame)
        self.buffer.remove(frame)

    def _leave(self, frame: HeldFrame) -> None:
        state, key = frame.state, frame.key
        if state is FrameState.WAITING:
            del self.buffer.waiting[key]
        elif state is FrameState.PROCESSED:
            del self.processed[key]
        elif state is FrameState.AGAIN:
            self.again.remove(key)
        elif state is FrameState.ALONE:
            self.alone.remove(key)
