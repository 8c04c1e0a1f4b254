"""Frames whose parts come from several producers, put together.

The choice: parts are numbered, and a frame is complete when each number has come once, whoever sent it and in
whatever order. A frame that stays incomplete is given up after a while, so a lost part costs its frame and no memory;
should the part come after all, with all the others again (at-least-once delivery), the frame is made then.
"""

from typing import Generic, TypeVar

from pyroaring import BitMap64

T = TypeVar("T")


class _Open(Generic[T]):
    """A frame of which some parts have come."""

    __slots__ = ("began", "items", "left")

    def __init__(self, parts: int, began: float) -> None:
        self.items: dict[int, T] = {}
        self.left = parts
        self.began = began


class PartGatherer(Generic[T]):
    """Holds parts until their frame is complete. One thread; times in seconds of any steady clock."""

    def __init__(self, *, parts: int, capacity: int, max_wait_s: float) -> None:
        """Make an empty gatherer.

        Args:
            parts: parts of one frame, numbered from 0.
            capacity: incomplete frames held at most; beyond it the oldest is given up.
            max_wait_s: how long a frame waits for its other parts, from its first.

        Raises:
            ValueError: `parts` below 2, `capacity` below 1, or a negative wait.
        """
        if parts < 2 or capacity < 1 or max_wait_s < 0:
            raise ValueError(f"parts {parts}, capacity {capacity}, max_wait_s {max_wait_s}: at least 2, 1, 0")
        self.parts = parts
        self._capacity = capacity
        self._max_wait_s = max_wait_s
        # In the order of their first parts, so the oldest comes first.
        self._open: dict[int, _Open[T]] = {}
        self._complete = BitMap64()
        self._given_up = BitMap64()
        self.duplicates = 0
        """Parts that had come before; discarded."""

    @property
    def held(self) -> int:
        """Incomplete frames."""
        return len(self._open)

    @property
    def incomplete(self) -> int:
        """Frames given up so far and not completed later."""
        return len(self._given_up)

    def is_complete(self, key: int) -> bool:
        """Whether all parts of a frame have been handed out."""
        return key in self._complete

    def complete_before(self, keys: BitMap64) -> None:
        """Another gatherer has handed these out, before this one."""
        self._complete |= keys

    def push(self, key: int, part: int, item: T, now: float) -> tuple[T, ...] | None:
        """Take a part; with the last one of its frame return all, by their numbers.

        Raises:
            ValueError: a part number outside 0..parts-1.
        """
        if not 0 <= part < self.parts:
            raise ValueError(f"part {part} is outside 0..{self.parts - 1}")
        frame = self._frame(key, now)
        if frame is None or part in frame.items:
            self.duplicates += 1
            return None
        frame.items[part] = item
        frame.left -= 1
        return self._finish(key, frame) if not frame.left else None

    def give_up(self, now: float) -> int:
        """Let frames go that have waited for too long; returns how many."""
        oldest_allowed = now - self._max_wait_s
        gone = 0
        while self._open:
            key, frame = next(iter(self._open.items()))
            if frame.began > oldest_allowed:
                break
            self._drop(key)
            gone += 1
        return gone

    def give_up_all(self) -> int:
        """Let all incomplete frames go: nothing more is coming; returns how many."""
        gone = len(self._open)
        self._given_up.update(self._open)
        self._open.clear()
        return gone

    def _frame(self, key: int, now: float) -> _Open[T] | None:
        """The open frame of that key, a new one if need be; None where it is complete."""
        frame = self._open.get(key)
        if frame is None and key not in self._complete:
            if len(self._open) == self._capacity:
                self._drop(next(iter(self._open)))
            frame = self._open[key] = _Open(self.parts, now)
        return frame

    def _finish(self, key: int, frame: _Open[T]) -> tuple[T, ...]:
        del self._open[key]
        self._complete.add(key)
        self._given_up.discard(key)
        return tuple(frame.items[part] for part in range(self.parts))

    def _drop(self, key: int) -> None:
        del self._open[key]
        self._given_up.add(key)
