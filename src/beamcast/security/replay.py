"""Which frames of one sender's session have been opened already.

A sliding window, as in RFC 4303 section 3.4.3 (IPsec): everything up to `WINDOW` counters behind the highest is
remembered one by one, anything older is refused. Frames of one sender come out of order when they pass over several
channels and are merged; a collector's reorder window bounds by how much, and 4096 is more than any that we set. A
smaller one would refuse late frames, a larger one costs time with each frame (a bit a counter, 0.5 KiB moved).
"""

WINDOW = 4096
_MASK = (1 << WINDOW) - 1


class ReplayWindow:
    """The counters that were seen, bit by bit below the highest."""

    __slots__ = ("_highest", "_seen")

    def __init__(self) -> None:
        self._highest = -1
        self._seen = 0

    def is_new(self, counter: int) -> bool:
        """Whether `counter` (0 or more) may still be taken: not seen, and not too old to tell."""
        behind = self._highest - counter
        return behind < 0 or (behind < WINDOW and not self._seen >> behind & 1)

    def take(self, counter: int) -> None:
        """Take note of a counter that `is_new`. Only after its frame has proved genuine: else a forged frame could
        push the window past all that are under way."""
        ahead = counter - self._highest
        if ahead <= 0:
            self._seen |= 1 << -ahead
        else:
            # A jump past the window empties it; shifting by such a number would need memory for all its bits.
            self._seen = (self._seen << ahead & _MASK | 1) if ahead < WINDOW else 1
            self._highest = counter
