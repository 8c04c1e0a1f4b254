"""Input and output rates, and how long a buffer will last at them.

The choice: rates averaged over about 5 s. Much shorter, the pauses of a detector read as the end of the stream; much
longer, an operator looks at a minute that is over.
"""

import math

AVERAGE_OVER_S = 5.0


class FlowRates:
    """Two rates in bytes/s, exponentially averaged. One thread; times in seconds of any steady clock."""

    __slots__ = ("_at", "in_bytes", "in_bytes_per_s", "out_bytes", "out_bytes_per_s")

    def __init__(self) -> None:
        self.in_bytes = 0
        """Since the last tick; the owner adds."""
        self.out_bytes = 0
        self.in_bytes_per_s = 0.0
        self.out_bytes_per_s = 0.0
        self._at: float | None = None

    def tick(self, now: float) -> None:
        """Take what came since the last tick into the rates. The first tick only starts the clock."""
        if self._at is not None and now > self._at:
            elapsed_s = now - self._at
            weight = -math.expm1(-elapsed_s / AVERAGE_OVER_S)
            self.in_bytes_per_s += weight * (self.in_bytes / elapsed_s - self.in_bytes_per_s)
            self.out_bytes_per_s += weight * (self.out_bytes / elapsed_s - self.out_bytes_per_s)
        if self._at is None or now > self._at:
            self._at, self.in_bytes, self.out_bytes = now, 0, 0

    def seconds_left(self, free_bytes: int) -> float:
        """How long `free_bytes` last; infinity while no more comes in than goes out."""
        surplus = self.in_bytes_per_s - self.out_bytes_per_s
        return free_bytes / surplus if surplus > 0 else math.inf
