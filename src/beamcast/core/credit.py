"""How many frames each rank may still take, and which rank gets the next one.

The choice: the rank with the fewest frames outstanding, and among equals the one that has waited longest. A slow rank
keeps its frames longer, so it gets fewer, without a rate being estimated. Ranks stand in buckets by their number of
outstanding frames: choosing costs the same for 4 ranks and for 1000.

Where frames travel in stacks, a rank gets a turn of as many in a row, so that a stack fills in the time of so many
frames, however many ranks there are. A turn begins only at a rank that has room for all of it: with credit that comes
back bit by bit, stacks would stay small just when the load is high.
"""

import math
from enum import Enum, auto
from itertools import islice

_CLOSED = -1  # the bucket of a rank that takes no frames


class RankMode(Enum):
    """What a rank that is present may get."""

    OPEN = auto()
    RESERVED = auto()  # gets suspect frames only, one at a time
    SILENT = auto()  # shows no sign of life; gets nothing, holds nothing, may come back
    LEAVING = auto()  # finishes what it has


class RankCredit:
    """One generation of one rank: its window, and what was sent to it and not yet acked.

    A frame stays outstanding until its ack, even after it was given to another rank or retired: it still takes a
    place in the queue of this rank, and that queue must not overrun.
    """

    __slots__ = (
        "bucket",
        "generation",
        "mode",
        "outstanding",
        "outstanding_bytes",
        "rank",
        "serial",
        "window_bytes",
        "window_frames",
    )

    def __init__(self, rank: int, generation: int, *, window_frames: int, window_bytes: int) -> None:
        """Make a rank with nothing outstanding.

        Raises:
            ValueError: a window below one frame or one byte, with which the rank could never work.
        """
        if window_frames < 1 or window_bytes < 1:
            raise ValueError(
                f"rank {rank}: a window of {window_frames} frames, {window_bytes} bytes takes nothing"
            )
        self.rank = rank
        self.generation = generation
        self.window_frames = window_frames
        self.window_bytes = window_bytes
        self.mode = RankMode.OPEN
        self.outstanding: dict[int, int] = {}
        """Size in bytes by key, in the order sent."""
        self.outstanding_bytes = 0
        self.serial = -1
        """The highest ack taken."""
        self.bucket = _CLOSED

    def take(self, key: int, size_bytes: int) -> None:
        """Count a frame that is being sent. The caller asked `RankChoice` before."""
        self.outstanding[key] = size_bytes
        self.outstanding_bytes += size_bytes

    def give_back(self, key: int) -> bool:
        """Return the credit of one frame; False where the frame was not outstanding (a repeat)."""
        size_bytes = self.outstanding.pop(key, None)
        if size_bytes is None:
            return False
        self.outstanding_bytes -= size_bytes
        return True


class RankChoice:
    """The ranks that have room, by load. One thread."""

    def __init__(self, turn_frames: int = 1) -> None:
        """`turn_frames`: how many frames in a row go to one rank."""
        self._turn_frames = turn_frames
        self._turn_rank: RankCredit | None = None
        self._turn_left = 0
        self._buckets: list[dict[RankCredit, None]] = []
        self._lowest = 0
        self._no_room_from = math.inf
        """Smallest size that found no room since credit last came back: the next search would fail as well."""

    def settle(self, rank: RankCredit) -> None:
        """Put a rank where it belongs; to be called after its mode or its outstanding frames changed."""
        load = len(rank.outstanding)
        # A window narrower than a turn lets the rank begin one when it has nothing.
        most = max(1, rank.window_frames - self._turn_frames + 1)
        bucket = load if rank.mode is RankMode.OPEN and load < most else _CLOSED
        before = rank.bucket
        if bucket == before:
            return
        if before != _CLOSED:
            del self._buckets[before][rank]
        rank.bucket = bucket
        if bucket != _CLOSED:
            self._insert(rank, bucket)
            if bucket < before or before == _CLOSED:
                self._no_room_from = math.inf

    def remove(self, rank: RankCredit) -> None:
        """Forget a rank."""
        if rank is self._turn_rank:
            self.end_turn()
        if rank.bucket != _CLOSED:
            del self._buckets[rank.bucket][rank]
            rank.bucket = _CLOSED

    def end_turn(self) -> None:
        """The next frame goes to whoever has the fewest."""
        self._turn_rank, self._turn_left = None, 0

    def next(self, size_bytes: int) -> RankCredit | None:
        """Return the rank that gets the next frame, which the caller now sends; None where none has room."""
        if self._turn_left:
            rank = self._turn_rank
            assert rank is not None
            if rank.mode is RankMode.OPEN and rank.outstanding_bytes + size_bytes <= rank.window_bytes:
                self._turn_left -= 1
                return rank
            self.end_turn()
        rank = self.least_loaded(size_bytes)
        if rank is not None and self._turn_frames > 1:
            room = rank.window_frames - len(rank.outstanding)
            self._turn_rank, self._turn_left = rank, min(self._turn_frames, room) - 1
        return rank

    def least_loaded(self, size_bytes: int) -> RankCredit | None:
        """Return the rank with the fewest frames that may begin a turn; None where none has room for as many bytes."""
        if size_bytes >= self._no_room_from:
            return None
        buckets, lowest = self._buckets, self._lowest
        while lowest < len(buckets) and not buckets[lowest]:
            lowest += 1
        self._lowest = lowest
        for bucket in islice(buckets, lowest, None):
            for rank in bucket:
                if rank.outstanding_bytes + size_bytes <= rank.window_bytes:
                    return rank
        self._no_room_from = size_bytes
        return None

    def _insert(self, rank: RankCredit, bucket: int) -> None:
        while len(self._buckets) <= bucket:
            self._buckets.append({})
        self._buckets[bucket][rank] = None
        if bucket < self._lowest:
            self._lowest = bucket
