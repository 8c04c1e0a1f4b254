"""Frames that were sent to a rank and never got there.

A rank whose monitor was interrupted loses what was on its way, and pvAccess tells neither side for certain: a
connection may be taken up again between two looks, and its first updates may become one. So the rank says whether it
has anything in hand, and whoever sent it frames draws the conclusion.
"""

# Longer than any update should take. One that does take longer comes twice, and the second result is ignored.
PATIENCE_S = 3.0
# On a link that is slower than that, patience doubles with each mistake.
LONGEST_S = 60.0


class Transit:
    """What is on its way to each rank. One thread; `now` in seconds of any steady clock."""

    def __init__(self) -> None:
        self._waits: dict[int, tuple[int, float]] = {}
        self._patience_s: dict[int, float] = {}

    def busy(self, rank: int) -> None:
        """The rank has frames in hand."""
        self._waits.pop(rank, None)

    def arrived(self, rank: int) -> None:
        """Frames came through."""
        self._patience_s.pop(rank, None)

    def is_lost(self, rank: int, oldest: int | None, *, now: float) -> bool:
        """The rank has nothing in hand. Whether the `oldest` frame that was sent to it and not reported since, and
        with it all others, must be lost on the way."""
        if oldest is None:
            self.busy(rank)
            return False
        key, since = self._waits.setdefault(rank, (oldest, now))
        if key != oldest:
            self._waits[rank] = (oldest, now)
            return False
        patience_s = self._patience_s.get(rank, PATIENCE_S)
        if now - since < patience_s:
            return False
        self.busy(rank)
        self._patience_s[rank] = min(LONGEST_S, 2 * patience_s)
        return True
