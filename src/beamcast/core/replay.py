"""The frames that are held, where they are, and the bytes they take: the replay buffer without its payloads.

The choice: two budgets that can't take from each other. `kept` is for frames that can be sent, or sent again, at once;
the spill buffer is for frames on their way to disk. With one budget, a fast source and a slow disk would fill memory
with frames that nobody may send, and the ranks would stand idle.

Frames leave in the order in which they came: once one lies on disk, those that follow go there too, until all are
read back.
"""

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from beamcast.core.credit import RankCredit


class FrameState(Enum):
    """Where a held frame is."""

    WAITING = auto()  # in memory, never sent
    AGAIN = auto()  # in memory, to be sent again
    ALONE = auto()  # in memory, to be sent again with nothing beside it
    IN_FLIGHT = auto()  # at its holder
    PROCESSED = auto()  # acked by its holder, the result not yet retired
    SPILLING = auto()  # being written to disk
    SPILLED = auto()  # on disk
    READING = auto()  # being read back


class HeldFrame:
    """One frame that has no final state yet."""

    __slots__ = (
        "holder",
        "key",
        "processed_at",
        "sends",
        "size_bytes",
        "state",
        "strikes",
        "was_alone",
        "why",
    )

    def __init__(self, key: int, size_bytes: int, state: FrameState) -> None:
        self.key = key
        self.size_bytes = size_bytes
        self.state = state
        self.holder: RankCredit | None = None
        """The rank that has it (IN_FLIGHT) or has made its result (PROCESSED)."""
        self.sends = 0
        self.strikes = 0
        """Ranks it failed on or died with."""
        self.was_alone = False
        """Whether it was once sent to a rank that had nothing else."""
        self.why = ""
        """What came with the last strike."""
        self.processed_at = 0.0

    def strike(self, why: str) -> None:
        """A rank failed on it or died with it. Once another rank has processed it, that says nothing."""
        if self.state is not FrameState.PROCESSED:
            self.strikes += 1
            self.why = why


class Overflow(StrEnum):
    """What happens to a frame that doesn't fit into memory."""

    SPILL = "spill"
    DROP = "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayLimits:
    """The bounds of the buffer."""

    max_bytes: int
    """Payload bytes in memory, all states together."""
    max_frames: int = 1_000_000
    """Frames held, on disk or not. About 0.5 KiB of our own memory each, so that tiny frames can't fill it."""
    overflow: Overflow = Overflow.DROP
    disk_bytes: int = 0
    """Payload bytes on disk; SPILL only."""
    spill_buffer_bytes: int = 0
    """The part of `max_bytes` for frames on their way to disk; SPILL only. It bridges the pauses of the disk."""

    def __post_init__(self) -> None:
        if self.max_bytes < 1 or self.max_frames < 1:
            raise ValueError(f"a buffer of {self.max_bytes} bytes, {self.max_frames} frames holds nothing")
        if self.overflow is Overflow.SPILL and not 0 < self.spill_buffer_bytes < self.max_bytes:
            raise ValueError(
                f"spill_buffer_bytes {self.spill_buffer_bytes} must lie inside max_bytes {self.max_bytes}"
            )

    @property
    def kept_bytes(self) -> int:
        """The part of memory for frames that can be sent."""
        return self.max_bytes - (self.spill_buffer_bytes if self.overflow is Overflow.SPILL else 0)


class ReplayBuffer:
    """Keeps the books of held frames. One thread. Memory grows with the frames held, with nothing else."""

    def __init__(self, limits: ReplayLimits) -> None:
        self._limits = limits
        self._kept_limit = limits.kept_bytes
        self._disk_limit = limits.disk_bytes if limits.overflow is Overflow.SPILL else 0
        self.frames: dict[int, HeldFrame] = {}
        # An OrderedDict, since taking the first of a plain dict again and again searches past all that were taken.
        self.waiting: OrderedDict[int, HeldFrame] = OrderedDict()
        self._on_disk: OrderedDict[int, HeldFrame] = OrderedDict()
        self._reading: dict[int, HeldFrame] = {}
        self.kept_bytes = 0
        self.spilling_bytes = 0
        self.disk_bytes = 0

    @property
    def memory_bytes(self) -> int:
        """Payload bytes in memory, never above the bound."""
        return self.kept_bytes + self.spilling_bytes

    @property
    def spilled_frames(self) -> int:
        """Frames on disk, on their way there or back."""
        return len(self._on_disk) + len(self._reading)

    @property
    def free_bytes(self) -> int:
        """What the source may still send before a frame is lost, if nothing leaves."""
        return max(0, self._kept_limit - self.kept_bytes) + max(0, self._disk_limit - self.disk_bytes)

    def admit(self, key: int, size_bytes: int) -> HeldFrame | None:
        """Take a frame, WAITING or SPILLING; None where no bound allows it."""
        if len(self.frames) >= self._limits.max_frames:
            return None
        if self.kept_bytes + size_bytes <= self._kept_limit and not self._on_disk and not self._reading:
            frame = self.waiting[key] = HeldFrame(key, size_bytes, FrameState.WAITING)
            self.kept_bytes += size_bytes
        elif self._may_spill(size_bytes):
            frame = self._on_disk[key] = HeldFrame(key, size_bytes, FrameState.SPILLING)
            self.spilling_bytes += size_bytes
            self.disk_bytes += size_bytes
        else:
            return None
        self.frames[key] = frame
        return frame

    def why_refused(self, size_bytes: int) -> str:
        """Say which bound refused a frame."""
        if size_bytes > self._kept_limit:
            return f"{size_bytes} bytes never fit into the replay buffer of {self._kept_limit} bytes"
        if len(self.frames) >= self._limits.max_frames:
            return f"{len(self.frames)} frames are held already"
        if self._limits.overflow is Overflow.DROP:
            return f"the replay buffer is full ({self.kept_bytes} of {self._kept_limit} bytes)"
        if self.disk_bytes + size_bytes > self._disk_limit:
            return f"the disk is full ({self.disk_bytes} of {self._disk_limit} bytes)"
        return f"the disk is too slow ({self.spilling_bytes} bytes wait to be written)"

    def adopt(self, key: int, size_bytes: int) -> None:
        """A frame that another buffer has left on disk; after those that are there already."""
        self.frames[key] = self._on_disk[key] = HeldFrame(key, size_bytes, FrameState.SPILLED)
        self.disk_bytes += size_bytes

    def spilled(self, frame: HeldFrame) -> None:
        """The payload is on disk."""
        frame.state = FrameState.SPILLED
        self.spilling_bytes -= frame.size_bytes

    def disk_is_full(self) -> None:
        """The disk took no more: what lies there now is all it takes. Reading back makes room again."""
        self._disk_limit = min(self._disk_limit, self.disk_bytes)

    def disk_may_have_room(self) -> None:
        """Try the disk up to its bound again."""
        self._disk_limit = self._limits.disk_bytes

    def next_to_read(self) -> HeldFrame | None:
        """Return the oldest frame on disk as READING, its bytes counted; None where it isn't there or won't fit."""
        frame = next(iter(self._on_disk.values()), None)
        if frame is None or frame.state is FrameState.SPILLING:
            return None
        if self.kept_bytes + frame.size_bytes > self._kept_limit:
            return None
        del self._on_disk[frame.key]
        self._reading[frame.key] = frame
        frame.state = FrameState.READING
        self.kept_bytes += frame.size_bytes
        return frame

    def was_read(self, frame: HeldFrame) -> None:
        """The payload is in memory again, the file gone."""
        del self._reading[frame.key]
        self.disk_bytes -= frame.size_bytes
        frame.state = FrameState.WAITING
        self.waiting[frame.key] = frame

    def remove(self, frame: HeldFrame) -> None:
        """Forget a frame in any state."""
        del self.frames[frame.key]
        state, size_bytes = frame.state, frame.size_bytes
        if state is FrameState.SPILLING or state is FrameState.SPILLED:
            del self._on_disk[frame.key]
            self.disk_bytes -= size_bytes
            self.spilling_bytes -= size_bytes if state is FrameState.SPILLING else 0
            return
        self.kept_bytes -= size_bytes
        if state is FrameState.WAITING:
            del self.waiting[frame.key]
        elif state is FrameState.READING:
            del self._reading[frame.key]
            self.disk_bytes -= size_bytes

    def _may_spill(self, size_bytes: int) -> bool:
        # A frame above the kept budget could never be read back.
        return (
            self.disk_bytes + size_bytes <= self._disk_limit
            and self.spilling_bytes + size_bytes <= self._limits.spill_buffer_bytes
            and size_bytes <= self._kept_limit
        )
