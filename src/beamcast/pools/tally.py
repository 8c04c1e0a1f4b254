"""What a rank did with which frame, handed to the controller bit by bit.

The frame loop appends, the heartbeat thread takes. Appending to a list, slicing and deleting a slice are each atomic
under the interpreter's lock, and the taker deletes exactly as many as it copied: no lock on the frame path and
nothing lost between the two.
"""

from beamcast.core.ledger import encode_keys
from beamcast.pva.messages import Delta, FailedFrame

# A processor that raises on every frame must not fill memory or the network with tracebacks.
MAX_FAILED_FRAMES_PER_HEARTBEAT = 20


def _take(keys: list[int]) -> list[int]:
    count = len(keys)
    taken = keys[:count]
    del keys[:count]
    return taken


class Tally:
    """Keys by what became of them, since the last time they were taken."""

    __slots__ = ("current", "dropped", "duplicates", "failed", "failed_frames", "processed")

    def __init__(self) -> None:
        self.processed: list[int] = []
        self.dropped: list[int] = []
        self.failed: list[int] = []
        self.failed_frames: list[FailedFrame] = []
        self.duplicates = 0
        # The frame in the processor's hands; should the rank die now, it is known to have got this far.
        self.current: int | None = None

    def take(self) -> tuple[Delta, tuple[FailedFrame, ...]]:
        """What came in since the last call."""
        processed, dropped, failed = _take(self.processed), _take(self.dropped), _take(self.failed)
        count = min(len(self.failed_frames), MAX_FAILED_FRAMES_PER_HEARTBEAT)
        frames = tuple(self.failed_frames[:count])
        del self.failed_frames[:]
        current = self.current
        delta = Delta(
            received=encode_keys([current]) if current is not None else b"",
            processed=encode_keys(processed) if processed else b"",
            dropped=encode_keys(dropped) if dropped else b"",
            failed=encode_keys(failed) if failed else b"",
        )
        return delta, frames
