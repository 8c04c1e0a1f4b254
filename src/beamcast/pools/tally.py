"""What a rank did with which frame, handed to the controller bit by bit.

The frame loop appends, the heartbeat thread takes. Appending to a list, slicing and deleting a slice are each atomic
under the interpreter's lock, and the taker deletes exactly as many as it copied: no lock on the frame path and
nothing lost between the two.
"""

from pyroaring import BitMap64

from beamcast.core.keyset import encode_keys
from beamcast.pva.messages import Delta, FailedFrame

Keys = list[int] | BitMap64

# A processor that raises on every frame must not fill memory or the network with tracebacks.
MAX_FAILED_FRAMES_PER_HEARTBEAT = 20


def take_keys(keys: list[int]) -> list[int]:
    """What was appended to the list since the last call; removes it."""
    count = len(keys)
    taken = keys[:count]
    del keys[:count]
    return taken


class Tally:
    """Keys by what became of them, since the last time they were taken."""

    __slots__ = (
        "_reported",
        "_stuck_key",
        "_stuck_since",
        "_totals",
        "again",
        "current",
        "dropped",
        "duplicates",
        "failed",
        "failed_frames",
        "held",
        "processed",
    )

    def __init__(self) -> None:
        self.processed: list[int] = []
        self.dropped: list[int] = []
        self.failed: list[int] = []
        # Repeats of frames whose result was handed out before; only a collector has them.
        self.again: list[int] = []
        self.failed_frames: list[FailedFrame] = []
        self.duplicates = 0
        self._totals = (0, 0, 0)
        # The frame in the processor's hands; should the rank die now, it is known to have got this far.
        self.current: int | None = None
        # Frames that wait for their batch to fill up.
        self.held: list[int] = []
        self._stuck_key: int | None = None
        self._stuck_since = 0.0
        self._reported: int | None = None

    def take(self) -> tuple[Delta, tuple[FailedFrame, ...]]:
        """What came in since the last call."""
        return self.report(
            processed=take_keys(self.processed),
            dropped=take_keys(self.dropped),
            failed=take_keys(self.failed),
        )

    def report(
        self, *, processed: Keys, dropped: Keys, failed: Keys
    ) -> tuple[Delta, tuple[FailedFrame, ...]]:
        """The same for keys that were taken before, with what else is new."""
        was = self._totals
        self._totals = (was[0] + len(processed), was[1] + len(dropped), was[2] + len(failed))
        count = min(len(self.failed_frames), MAX_FAILED_FRAMES_PER_HEARTBEAT)
        frames = tuple(self.failed_frames[:count])
        del self.failed_frames[:count]
        current = self.current if self.current != self._reported else None
        self._reported = self.current
        received = [*self.held, *(() if current is None else (current,))]
        delta = Delta(
            received=encode_keys(received) if received else b"",
            processed=encode_keys(processed) if processed else b"",
            dropped=encode_keys(dropped) if dropped else b"",
            failed=encode_keys(failed) if failed else b"",
        )
        return delta, frames

    def counts(self) -> tuple[int, int, int]:
        """Processed, dropped and failed frames since the start; not yet those that wait to be acknowledged."""
        processed, dropped, failed = self._totals
        return processed + len(self.processed), dropped + len(self.dropped), failed + len(self.failed)

    def stuck_s(self, now: float) -> float:
        """Seconds for which the processor has been busy with one frame, as far as the calls of this method saw it.

        `now` is monotonic. Looking from outside costs the frame path nothing.
        """
        current = self.current
        if current is None or current != self._stuck_key:
            self._stuck_key, self._stuck_since = current, now
        return 0.0 if current is None else now - self._stuck_since
