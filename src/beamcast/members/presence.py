"""Whether the source is there, since when it is not, and how long it was away in all."""

import time
from collections.abc import Callable


class Presence:
    """`look` a few times a second, on one thread; `facts` from any."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._away: tuple[float, float] | None = None
        self._absences = 0
        self._away_s = 0.0

    def look(self, present: bool) -> bool:
        """Note whether the source is there now, and give back whether that has changed. To be begun when it was."""
        away, now = self._away, self._clock()
        if present == (away is None):
            return False
        if away is None:
            self._away = (now, self._wall_clock())
            self._absences += 1
        else:
            self._away = None
            self._away_s += now - away[0]
        return True

    def facts(self) -> dict[str, float]:
        """For the controller. `away_since`: by the wall clock, in seconds; 0 while the source is there."""
        away = self._away
        facts = {"away_since": 0.0, "absences": float(self._absences), "away_s": self._away_s}
        if away is not None:
            facts |= {"away_since": away[1], "away_s": self._away_s + self._clock() - away[0]}
        return facts
