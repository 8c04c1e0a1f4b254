"""Joining metadata to frames: which update of each metadata channel belongs to which frame.

The choice: every channel decides for itself, frame by frame, as soon as its answer can't change any more. In time that
is when an update at or after the frame's time has come; until then, and no longer than `wait_s`, the frame waits. Rows
leave in the order of the frames, so who has seen a later row knows that an earlier one does not come any more.

Times are integers in nanoseconds: a double holds a POSIX time to 200 ns only, and equal times have to compare equal.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from beamcast.core.ids import ID_MASK, FrameKey

Match = Literal["nearest", "previous", "id"]

# Updates that a channel keeps for frames still to come: a second at 10 kHz. Beyond it a late frame finds nothing.
HISTORY = 10_000
# Frames that wait for metadata. Only a source far faster than `wait_s` allows for fills it: the oldest go as they are.
MAX_WAITING = 100_000


Update = tuple[int | None, Any, int | None]
"""An update of a metadata channel: its time in ns, its value, the frame id that it carries; None where it has none."""


@dataclass(frozen=True, slots=True)
class MatchRule:
    """How one metadata channel is joined. `offset_ns` is added to its times; `tolerance_ns` None: any distance."""

    name: str
    match: Match
    tolerance_ns: int | None = None
    offset_ns: int = 0
    wait_s: float = 0.1

    def allows(self, distance_ns: int) -> bool:
        """Whether a value that far from the frame still belongs to it."""
        return self.tolerance_ns is None or abs(distance_ns) <= self.tolerance_ns


class Row:
    """One frame with what was found for it: values and their times by the number of the rule, None where nothing."""

    __slots__ = ("key", "open", "seen_at", "time_ns", "times_ns", "values")

    def __init__(self, key: FrameKey, time_ns: int | None, *, seen_at: float, columns: int) -> None:
        self.key = key
        self.time_ns = time_ns
        self.seen_at = seen_at
        self.open = columns
        self.values: list[Any] = [None] * columns
        self.times_ns: list[int | None] = [None] * columns


class Column:
    """One metadata channel; `TimedColumn` and `IdColumn` say how it finds its values."""

    def __init__(self, rule: MatchRule, number: int) -> None:
        self.rule = rule
        self.updates = 0
        self.unusable = 0
        """Updates without a time or an id, where the rule needs one."""
        self.matched = 0
        self.unmatched = 0
        self._number = number

    def _settle(self, row: Row, found: "tuple[int | None, Any] | None") -> None:
        row.open -= 1
        if found is None:
            self.unmatched += 1
            return
        self.matched += 1
        row.times_ns[self._number], row.values[self._number] = found

    def frame(self, row: Row) -> None:
        """A frame came."""
        raise NotImplementedError

    def take(self, updates: Sequence[Update]) -> None:
        """The channel was updated, as often as there are updates, in this order."""
        raise NotImplementedError

    def expire(self, seen_before: float) -> None:
        """Frames that came at or before this moment wait no longer."""
        raise NotImplementedError


class TimedColumn(Column):
    """Joins by time: the nearest update, or the last one that was not later than the frame."""

    def __init__(self, rule: MatchRule, number: int) -> None:
        super().__init__(rule, number)
        self._nearest = rule.match == "nearest"
        self._times: list[int] = []
        self._values: list[Any] = []
        self._waiting: deque[Row] = deque()

    def frame(self, row: Row) -> None:
        """Joined at once where an update at or after the frame's time is here already."""
        if row.time_ns is None:
            self._settle(row, None)
        elif not self._waiting and self._times and self._times[-1] >= row.time_ns:
            self._settle(row, self._find(row.time_ns))
        else:
            self._waiting.append(row)

    def take(self, updates: Sequence[Update]) -> None:
        """Frames up to the last of these times are settled."""
        self.updates += len(updates)
        offset_ns, times, values = self.rule.offset_ns, self._times, self._values
        for time_ns, value, _ in updates:
            if time_ns is None:
                self.unusable += 1
                continue
            time_ns += offset_ns
            if not times or time_ns >= times[-1]:
                times.append(time_ns)
                values.append(value)
            else:  # a clock that went back, or updates out of order
                at = bisect_right(times, time_ns)
                times.insert(at, time_ns)
                values.insert(at, value)
        waiting = self._waiting
        while waiting and times and times[-1] >= (waiting[0].time_ns or 0):
            row = waiting.popleft()
            self._settle(row, self._find(row.time_ns or 0))
        if len(times) >= 2 * HISTORY:
            del times[:-HISTORY], values[:-HISTORY]

    def expire(self, seen_before: float) -> None:
        """What is there now has to do."""
        waiting = self._waiting
        while waiting and waiting[0].seen_at <= seen_before:
            row = waiting.popleft()
            self._settle(row, self._find(row.time_ns or 0))

    def _find(self, time_ns: int) -> tuple[int | None, Any] | None:
        times = self._times
        at = bisect_right(times, time_ns) - 1  # the last one that was not later
        if (
            self._nearest
            and at + 1 < len(times)
            and (at < 0 or times[at + 1] - time_ns < time_ns - times[at])
        ):
            at += 1
        if at < 0 or not self.rule.allows(times[at] - time_ns):
            return None
        return times[at] - self.rule.offset_ns, self._values[at]


class IdColumn(Column):
    """Joins by the frame id that the update itself carries. An update is used once."""

    def __init__(self, rule: MatchRule, number: int) -> None:
        super().__init__(rule, number)
        self._found: dict[int, tuple[int | None, Any]] = {}
        self._waiting: dict[int, Row] = {}
        self._last: int | None = None

    def frame(self, row: Row) -> None:
        """Joined at once where its update is here already."""
        frame_id = row.key & ID_MASK
        found = self._found.pop(frame_id, None)
        if found is not None:
            self._settle(row, self._checked(row, found))
            return
        before = self._waiting.pop(frame_id, None)
        if before is not None:  # the same id in an earlier life of the source
            self._settle(before, None)
        self._waiting[frame_id] = row

    def take(self, updates: Sequence[Update]) -> None:
        """The frames with these ids are settled, or will be when they come."""
        for update in updates:
            self._take(*update)

    def _take(self, time_ns: int | None, value: Any, frame_id: int | None) -> None:
        self.updates += 1
        if frame_id is None:
            self.unusable += 1
            return
        frame_id &= ID_MASK
        if self._last is not None and frame_id < self._last:
            # Ids begin anew: what is left of the old ones must not meet the new ones.
            self._found = {old: found for old, found in self._found.items() if old < frame_id}
        self._last = frame_id
        row = self._waiting.pop(frame_id, None)
        if row is not None:
            self._settle(row, self._checked(row, (time_ns, value)))
            return
        self._found[frame_id] = (time_ns, value)
        if len(self._found) > HISTORY:
            del self._found[next(iter(self._found))]

    def expire(self, seen_before: float) -> None:
        """Frames whose update has not come go without."""
        while self._waiting:
            frame_id, row = next(iter(self._waiting.items()))
            if row.seen_at > seen_before:
                return
            del self._waiting[frame_id]
            self._settle(row, None)

    def _checked(self, row: Row, found: tuple[int | None, Any]) -> tuple[int | None, Any] | None:
        """With a tolerance, times that are known on both sides have to agree too."""
        time_ns = found[0]
        if time_ns is None or row.time_ns is None:
            return found
        return found if self.rule.allows(time_ns + self.rule.offset_ns - row.time_ns) else None


class Joiner:
    """All metadata channels of a run and the frames that wait for them. One thread."""

    def __init__(self, rules: Sequence[MatchRule]) -> None:
        self.columns: tuple[Column, ...] = tuple(
            IdColumn(rule, number) if rule.match == "id" else TimedColumn(rule, number)
            for number, rule in enumerate(rules)
        )
        self.frames = 0
        self._rows: deque[Row] = deque()

    def frame(self, key: FrameKey, time_ns: int | None, *, now: float) -> None:
        """A frame was sent by the source; `time_ns` None where it has no time."""
        self.frames += 1
        row = Row(key, time_ns, seen_at=now, columns=len(self.columns))
        self._rows.append(row)
        for column in self.columns:
            column.frame(row)
        if len(self._rows) > MAX_WAITING:
            for column in self.columns:
                column.expire(self._rows[-MAX_WAITING].seen_at)

    def update(self, number: int, time_ns: int | None, value: Any, *, frame_id: int | None = None) -> None:
        """Channel `number` was updated. `frame_id`: the id that the update carries, where it is joined by id."""
        self.columns[number].take([(time_ns, value, frame_id)])

    def updates(self, number: int, updates: Sequence[Update]) -> None:
        """Channel `number` was updated several times: a third of the cost of one by one."""
        self.columns[number].take(updates)

    def expire(self, now: float, *, but: Collection[int] = ()) -> None:
        """Let go of the frames that have waited for as long as their rules allow. `but`: channels whose updates are
        here and were not taken yet; frames wait for those however late we are."""
        for number, column in enumerate(self.columns):
            if number not in but:
                column.expire(now - column.rule.wait_s)

    def take(self) -> list[Row]:
        """Rows that are complete, in the order of their frames: none before one that still waits."""
        rows, done = self._rows, []
        while rows and not rows[0].open:
            done.append(rows.popleft())
        return done

    @property
    def waiting(self) -> int:
        """Frames whose row is not complete."""
        return len(self._rows)
