"""Order of frames that come from several producers.

The choice: each producer's keys increase, so a key can no longer come once every producer has passed it. Everything up
to the lowest "last key" of the producers (the watermark) is released, and so is the next neighbour of the key that was
released last: nothing can come in between. Where no id is missing, nobody is waited for, and what is made again for a
dead producer is not held back by it. A producer that stays quiet while frames wait stops holding them back until it
pushes again, or the whole stream has paused. A frame that comes after its turn is handed out at once, out of order,
and counted: the window neither stalls nor gives up on a frame.
"""

import math
from heapq import heapify, heappop, heappush, heapreplace
from typing import Generic, TypeVar

from pyroaring import BitMap64

T = TypeVar("T")

# A stream in which nobody pushes for so many waits has paused.
PAUSE_WAITS = 2
# Last key of a producer before its first push: below every key, so it holds back everything.
_NOTHING_YET = -1


class _Producer:
    """What the window knows of one producer."""

    __slots__ = ("holds", "last", "pushed_at")

    def __init__(self) -> None:
        self.last = _NOTHING_YET
        self.pushed_at = float("-inf")
        self.holds = False
        """Whether it takes part in the watermark (has an entry in the heap of low marks)."""


class ReorderWindow(Generic[T]):
    """Holds items back until their order is certain. One thread; times in seconds of any steady clock.

    A push and its release cost about 1.5 µs together, nearly independent of the number of producers: their
    low marks stand in a heap whose entries are brought up to date only when they reach its top.
    """

    def __init__(self, *, capacity: int, max_wait_s: float) -> None:
        """Make an empty window without producers.

        Args:
            capacity: items held at most; beyond it the lowest keys are released. 0: everything leaves at
                once.
            max_wait_s: how long a quiet producer may hold back items of others.

        Raises:
            ValueError: a negative capacity or wait.
        """
        if capacity < 0 or max_wait_s < 0:
            raise ValueError(f"capacity {capacity} and max_wait_s {max_wait_s} must not be negative")
        self._capacity = capacity
        self._max_wait_s = max_wait_s
        self._items: dict[int, T] = {}
        self._order: list[int] = []
        self._waiting_since = 0.0
        """Time of the last release in order, or of the push that ended an empty window."""
        self._heard_at = 0.0
        """Time of the last push."""
        self._late_items: list[tuple[int, T]] = []
        self._released = BitMap64()
        self._top = _NOTHING_YET
        self._producers: dict[int, _Producer] = {}
        self._low_marks: list[tuple[int, int]] = []
        self.duplicates = 0
        """Pushes of a key that was held or released already; discarded."""
        self.late = 0
        """Keys that came after a higher one was released; handed out, out of order."""

    @property
    def held(self) -> int:
        """Items pushed and not handed out."""
        return len(self._items) + len(self._late_items)

    @property
    def top(self) -> int | None:
        """The highest key that was released; None before the first."""
        return None if self._top == _NOTHING_YET else self._top

    def add_producer(self, producer: int) -> None:
        """Let a producer take part: nothing passes what it has not passed. Twice is once."""
        if producer not in self._producers:
            state = self._producers[producer] = _Producer()
            self._hold(producer, state)

    def retire_producer(self, producer: int) -> None:
        """Let a producer go: it holds nothing back. What it pushed, and still pushes, is kept."""
        if self._producers.pop(producer, None) is not None:
            self._low_marks = [mark for mark in self._low_marks if mark[1] != producer]
            heapify(self._low_marks)

    def released_before(self, keys: BitMap64) -> None:
        """Another window has handed these out, before this one: pushed again they are duplicates."""
        self._released |= keys
        if keys and keys.max() > self._top:
            self._top = keys.max()

    def was_released(self, key: int) -> bool:
        """Whether the item of this key has been handed out."""
        return key in self._released

    def passed(self, producer: int, key: int, now: float) -> None:
        """A producer has got as far as `key`, without an item for this window (a part of one, say)."""
        state = self._producers.get(producer)
        if state is not None:
            state.pushed_at = now
            if key > state.last:
                state.last = key
            if not state.holds:
                self._hold(producer, state)

    def push(self, producer: int, key: int, item: T, now: float) -> bool:
        """Take an item; False when it is a duplicate.

        A producer that was not added, or was retired, may push: it does not take part in the order.
        `key` is not negative; equal keys are the same frame.
        """
        if not self._order:
            self._begin_to_wait(now)
        self._heard_at = now
        self.passed(producer, key, now)
        if key > self._top and key not in self._items:
            self._items[key] = item
            heappush(self._order, key)
            return True
        return self._push_again_or_late(key, item)

    def ready(self, now: float) -> list[tuple[int, T]]:
        """Return what may go, by increasing key over the whole life of the window; late items come first."""
        out = self._take_late() if self._late_items else []
        if self._order:
            self._release_up_to(self._watermark(), out, now)
        excused_since = self._waiting_since
        while self._order and self._excuse_quiet(now):
            self._release_up_to(self._watermark(), out, now)
            # Another producer that fell quiet at the same time has had its wait: it gets no second one.
            self._waiting_since = excused_since
        return out

    def flush(self) -> list[tuple[int, T]]:
        """Return everything that is held, late items first, then by increasing key."""
        out = self._take_late()
        while self._order:
            self._release_lowest(out)
        return out

    def _push_again_or_late(self, key: int, item: T) -> bool:
        """A key that is held, or is not above one that was released."""
        if key in self._items or key in self._released:
            self.duplicates += 1
            return False
        self.late += 1
        self._released.add(key)
        self._late_items.append((key, item))
        return True

    def _begin_to_wait(self, now: float) -> None:
        """The window is empty. If nobody has pushed for a while, whoever was quiet before was so with all others."""
        if now - self._heard_at > PAUSE_WAITS * self._max_wait_s:
            for producer, state in self._producers.items():
                if not state.holds:
                    self._hold(producer, state)
        self._waiting_since = now

    def _release_up_to(self, watermark: float, out: list[tuple[int, T]], now: float) -> None:
        order = self._order
        while order and (order[0] == self._top + 1 or order[0] <= watermark or len(order) > self._capacity):
            self._release_lowest(out)
            self._waiting_since = now

    def _release_lowest(self, out: list[tuple[int, T]]) -> None:
        key = self._top = heappop(self._order)
        self._released.add(key)
        out.append((key, self._items.pop(key)))

    def _take_late(self) -> list[tuple[int, T]]:
        late, self._late_items = self._late_items, []
        late.sort(key=lambda pair: pair[0])
        return late

    def _hold(self, producer: int, state: _Producer) -> None:
        state.holds = True
        heappush(self._low_marks, (state.last, producer))

    def _watermark(self) -> float:
        """Lowest last key of the producers that take part; infinity where there is none.

        An entry is never above its producer's last key, so a top entry that is up to date is the lowest.
        """
        marks = self._low_marks
        while marks:
            mark, producer = marks[0]
            last = self._producers[producer].last
            if last == mark:
                return mark
            heapreplace(marks, (last, producer))
        return math.inf

    def _excuse_quiet(self, now: float) -> bool:
        """Take out the lowest producers that were quiet for too long while something waited; whether any was.

        The wait counts from the later of the producer's last push and the last release (or the end of an
        empty window): after a pause of the whole stream, the first producer to come back waits for the
        others. One that is taken out stays out until it pushes again, or such a pause is over.
        """
        deadline = now - self._max_wait_s
        if self._waiting_since > deadline:
            return False
        excused = False
        while self._watermark() < self._order[0]:
            producer = self._low_marks[0][1]
            state = self._producers[producer]
            if state.pushed_at > deadline:
                break
            heappop(self._low_marks)
            state.holds = False
            excused = True
        return excused
