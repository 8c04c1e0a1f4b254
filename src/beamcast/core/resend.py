"""The frames to be sent again, lowest key first.

The choice: a sorted list. Frames come back rarely and many at once (a rank died), leave from the front, and now and
then one leaves from the middle (its result came after all); lists of some thousand keys do all three in microseconds.
"""

from bisect import bisect_left, insort


class ResendLane:
    """Keys in increasing order."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: list[int] = []

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def first(self) -> int:
        """The lowest key; IndexError where there is none."""
        return self._keys[0]

    def add(self, key: int) -> None:
        """Add a key that isn't there."""
        insort(self._keys, key)

    def remove(self, key: int) -> None:
        """Take a key out that is there."""
        del self._keys[bisect_left(self._keys, key)]
