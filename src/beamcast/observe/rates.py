"""Frames per second in the last seconds, from counts that only grow. Pure: the caller has the clock."""

from collections import deque
from collections.abc import Mapping

# Long enough that a slow detector's rate does not flicker, short enough that one that has stopped is seen to.
WINDOW_S = 3.0
LEAST_STEP_S = 0.2


class RecentRates:
    """Rates of counts by name. One thread."""

    def __init__(self, *, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._looks: deque[tuple[float, dict[str, int]]] = deque()

    def look(self, counts: Mapping[str, int], *, now: float) -> dict[str, float]:
        """Take the counts as they are now, and give the rate of each over the last seconds: 0 at the first look."""
        looks = self._looks
        while len(looks) > 1 and looks[0][0] < now - self._window_s:
            looks.popleft()
        rates = self._since(looks[0], counts, now) if looks else dict.fromkeys(counts, 0.0)
        if not looks or now - looks[-1][0] >= LEAST_STEP_S:
            looks.append((now, dict(counts)))
        return rates

    @staticmethod
    def _since(look: tuple[float, dict[str, int]], counts: Mapping[str, int], now: float) -> dict[str, float]:
        at, before = look
        seconds = now - at
        if seconds <= 0:
            return dict.fromkeys(counts, 0.0)
        # A count may go back: a resumed run knows less than its predecessor did.
        return {name: max(count - before.get(name, 0), 0) / seconds for name, count in counts.items()}
