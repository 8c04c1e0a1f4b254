"""Frame ids, epochs and the key that joins them.

The choice: a frame is named by one 64-bit integer, epoch in the upper 16 bits and id in the lower 48, so that
any set of frames is one Roaring bitmap and the order of keys is the order in which the source sent the
frames.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NewType

from pyroaring import BitMap64

FrameId = NewType("FrameId", int)
"""The value of the id field (`uniqueId` or the configured one)."""
Epoch = NewType("Epoch", int)
"""One life of the source: ids may restart. Counted from 0."""
RankId = NewType("RankId", int)
"""Number of a process inside its pool, from 0."""
FrameKey = NewType("FrameKey", int)
"""Epoch and id in one unsigned 64-bit integer."""

ID_BITS = 48
ID_MASK = (1 << ID_BITS) - 1
MAX_EPOCH = (1 << (64 - ID_BITS)) - 1

# Widest range that `parse_ranges` expands. No run counts as many frames; without a bound, a typing error in a
# range would ask for 2^32 bitmap containers.
MAX_RANGE = 1 << 32


def frame_key(epoch: Epoch, frame_id: FrameId) -> FrameKey:
    """Join an epoch and an id.

    The id counts modulo 2^48: a negative id (the int32 `uniqueId` after its wrap) keeps its order before the
    0 that follows it, and an id beyond 48 bits starts again at 0.

    Raises:
        ValueError: the epoch does not fit into 16 bits.
    """
    if not 0 <= epoch <= MAX_EPOCH:
        raise ValueError(f"epoch {epoch} is outside 0..{MAX_EPOCH}")
    return FrameKey((epoch << ID_BITS) | (frame_id & ID_MASK))


def split_key(key: FrameKey) -> tuple[Epoch, FrameId]:
    """Return the epoch and the id (modulo 2^48) of a key."""
    return Epoch(key >> ID_BITS), FrameId(key & ID_MASK)


class EpochTracker:
    """Turns the ids of one channel, in order of arrival, into keys.

    An id lower than the one before begins a new epoch; an equal id is the same frame again and gets the same
    key. Ids are compared modulo 2^48, as they stand in the key: keys never decrease.

    While `counting` is off, an id that goes back begins no epoch. The members of a run connect at different times and
    begin to count together, so that all number the same frame alike, whatever the source did before.

    Behind a collector, which hands on a frame that comes after its turn, order is no sign: with `seen`, an id that goes
    back to one that has not come in this epoch is a late frame and not a new life of the source.

    Whoever joins later begins `after` a frame whose key is known: a first id below that one's is of the next epoch.
    """

    __slots__ = ("_after", "_base", "_changed", "_first", "_seen", "counting", "epoch", "last")

    def __init__(
        self,
        epoch: Epoch = Epoch(0),
        *,
        counting: bool = True,
        seen: BitMap64 | None = None,
        after: int | None = None,
        changed: Callable[[], None] | None = None,
    ) -> None:
        """`seen`: the keys that have come, kept by the caller; absent: ids come in order. `after`: the key of a frame
        that the channel has sent, in place of `epoch`. `changed` is called when an epoch begins."""
        self.counting = counting
        self._seen = seen
        self._changed = changed
        self._first: int | None = None
        self.last: FrameId | None = None
        """The last id seen (modulo 2^48); None before the first."""
        self._after: int | None = None
        if after is not None:
            epoch, self._after = split_key(FrameKey(after))
        self._base = int(frame_key(epoch, FrameId(0)))
        self.epoch = epoch
        """The epoch of the last id seen."""
        if seen:
            self._go_on(seen)

    def reach(self, key: FrameKey) -> None:
        """The source has sent the frame of this key, whatever came through here. Without effect where its epoch was
        known."""
        epoch, last = split_key(key)
        if epoch > self.epoch:
            self._base, self.epoch = int(frame_key(epoch, FrameId(0))), epoch
            self._first = self.last = None
            self._after = last

    def _go_on(self, seen: BitMap64) -> None:
        """Where another tracker has got to, which has left the keys that had come."""
        last = FrameKey(seen.max())
        if last >> ID_BITS == self.epoch:
            self.last = split_key(last)[1]
            self._first = int(seen[seen.rank(self._base - 1) if self._base else 0]) & ID_MASK

    def observe(self, frame_id: FrameId) -> FrameKey:
        """Return the key of the next id on the channel. Runs for every frame: one comparison, no allocation.

        Raises:
            ValueError: more than 65536 epochs.
        """
        last = self.last
        if last is not None and last <= frame_id <= ID_MASK:
            self.last = frame_id
            # A NewType call would cost as much as the rest of this function.
            return self._base | frame_id  # type: ignore[return-value]
        return self._observe_slowly(frame_id)

    def claimed(self, frame_id: FrameId) -> FrameKey:
        """The key of an id that is not to be believed: nothing follows from it for those that come after."""
        return FrameKey(self._base | (frame_id & ID_MASK))

    def _observe_slowly(self, frame_id: FrameId) -> FrameKey:
        """The first id, an id outside 0..2^48-1, or an id that went back."""
        folded = FrameId(frame_id & ID_MASK)
        if self._is_late(folded):
            return FrameKey(self._base | folded)
        if self._first is None:
            self._first = folded
        before = self._after if self.last is None else self.last
        self.last = folded
        if self.counting and before is not None and folded < before:
            self._first = folded
            self._base = int(frame_key(Epoch(self.epoch + 1), FrameId(0)))
            self.epoch = Epoch(self.epoch + 1)
            if self._changed is not None:
                self._changed()
        return FrameKey(self._base | folded)

    @property
    def reached(self) -> int | None:
        """The key of the last frame, or of the one that it begins after; None where neither is known."""
        before = self._after if self.last is None else self.last
        return None if before is None else self._base | before

    def _is_late(self, folded: FrameId) -> bool:
        """Whether it has come after its turn: above the first id of this epoch, and not there yet."""
        if self._seen is None or self._first is None or self.last is None or folded > self.last:
            return False
        return folded > self._first and (self._base | folded) not in self._seen


def format_ranges(keys: Iterable[int] | BitMap64, *, max_ranges: int | None = None) -> str:
    """Write keys as ranges of ids: ``1-5,9``, and ``e1:1-5`` in an epoch above 0. No keys give an empty text.

    Beyond `max_ranges` ranges the text ends with ``,… (+N ranges)``. The runs are found by shifting the
    bitmap, so the cost grows with the ranges that are written, not with the keys.
    """
    text, more = first_ranges(keys, max_ranges)
    if not more:
        return text
    left = f"… (+{more} ranges)"
    return f"{text},{left}" if text else left


def first_ranges(keys: Iterable[int] | BitMap64, most: int | None) -> tuple[str, int]:
    """The first ranges of ids, at most so many, as `parse_ranges` reads them; and how many more there are."""
    starts, ends = run_ends(keys if isinstance(keys, BitMap64) else BitMap64(keys))
    count = len(starts)
    shown = count if most is None else min(most, count)
    parts = [format_run(first, last) for first, last, _ in zip(starts, ends, range(shown), strict=False)]
    return ",".join(parts), count - shown


def run_ends(keys: BitMap64) -> tuple[BitMap64, BitMap64]:
    """First and last key of every run of consecutive ids within one epoch; one entry for a run in both."""
    if not keys:
        return BitMap64(), BitMap64()
    starts = keys - keys.shift(1)
    ends = keys - keys.shift(-1)
    for epoch in range((keys.min() >> ID_BITS) + 1, (keys.max() >> ID_BITS) + 1):
        border = epoch << ID_BITS
        if border in keys and border - 1 in keys:
            starts.add(border)
            ends.add(border - 1)
    # `shift(-1)` of pyroaring wraps 0 to 2^64-1 instead of dropping it.
    if keys.max() == 2**64 - 1:
        ends.add(2**64 - 1)
    return starts, ends


def format_run(first: int, last: int) -> str:
    """Write a run of keys within one epoch as `format_ranges` does."""
    epoch, first_id = split_key(FrameKey(first))
    last_id = last & ID_MASK
    prefix = f"e{epoch}:" if epoch else ""
    return f"{prefix}{first_id}" if first_id == last_id else f"{prefix}{first_id}-{last_id}"


def parse_ranges(text: str) -> BitMap64:
    """Read what `format_ranges` wrote, without a limit.

    Raises:
        ValueError: a part is no range, its ends are reversed or out of bounds, it is wider than 2^32 ids, or
            the text was cut short by `max_ranges`.
    """
    keys = BitMap64()
    for first, last in _parse_parts(text):
        # `add_range` excludes its end, which for the highest key would not fit into 64 bits.
        keys.add_range(first, last)
        keys.add(last)
    return keys


def _parse_parts(text: str) -> Iterator[tuple[int, int]]:
    for part in text.split(",") if text.strip() else ():
        prefix, colon, ids = part.strip().rpartition(":")
        first, dash, last = ids.partition("-")
        if colon and not (prefix.startswith("e") and _is_number(prefix[1:])):
            raise ValueError(f"{part!r}: expected an epoch such as 'e1:' before the ids")
        if not _is_number(first) or (dash and not _is_number(last)):
            raise ValueError(f"{part!r}: expected an id such as '9' or a range such as '1-5'")
        yield _checked_run(
            part, int(prefix[1:]) if colon else 0, int(first), int(last) if dash else int(first)
        )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 15


def _checked_run(part: str, epoch: int, first: int, last: int) -> tuple[int, int]:
    if not first <= last <= ID_MASK:
        raise ValueError(f"{part!r}: a range runs upwards within 0..{ID_MASK}")
    if last - first >= MAX_RANGE:
        raise ValueError(f"{part!r}: a range holds at most {MAX_RANGE} ids")
    return frame_key(Epoch(epoch), FrameId(first)), frame_key(Epoch(epoch), FrameId(last))


class FixedEpoch:
    """Frame keys in an epoch that someone else decides, for ids that may come again or out of order.

    The dispatcher sends a frame a second time when a rank has died with it, so a lower id does not begin a new epoch
    there. Same use as `EpochTracker`.
    """

    __slots__ = ("_base", "last", "reached")

    def __init__(self, epoch: Epoch = Epoch(0)) -> None:
        self._base = epoch << ID_BITS
        self.last: None = None
        self.reached: None = None

    @property
    def epoch(self) -> Epoch:
        """The epoch of the keys that are made now."""
        return Epoch(self._base >> ID_BITS)

    @epoch.setter
    def epoch(self, epoch: Epoch) -> None:
        self._base = epoch << ID_BITS

    def observe(self, frame_id: FrameId) -> FrameKey:
        """Return the key of a frame. `last` stays None: an id that repeats is another attempt, not a mistake."""
        return FrameKey(self._base | (frame_id & ID_MASK))

    def claimed(self, frame_id: FrameId) -> FrameKey:
        """The same; a key changes nothing here."""
        return self.observe(frame_id)
