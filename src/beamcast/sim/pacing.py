"""A steady rate without drift: every tick has its own absolute due time.

Sleeping "one period" each time adds up the cost of the loop; here tick k is due at start + k periods,
whatever happened before. The kernel wakes a sleeper some 60 µs late, so the last stretch is waited out by
yielding.

A pacer that fell behind (a slow client, a stopped laptop) may make up for `catch_up_s` of lost time by
ticking faster; beyond that the schedule moves, so that there is never a burst longer than that.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from beamcast.core.errors import UsageError

# Below this the kernel's wake-up latency is larger than what is left to wait.
_SPIN_S = 80e-6
# How long a slow pacer may be deaf to a request to stop.
_LONGEST_SLEEP_S = 0.1
# Deviations kept for percentiles: the last minute or so at 1 kHz, half a MiB at most, however long the run.
_KEPT = 65536


@dataclass(frozen=True, slots=True)
class Jitter:
    """How late ticks came: percentiles of the last 65536 ticks, maximum of all."""

    p50_s: float
    p99_s: float
    max_s: float


class Pacer:
    """Ticks at ``rate_hz`` from the first `wait` on; for one thread."""

    def __init__(
        self,
        rate_hz: float,
        *,
        catch_up_s: float = 0.02,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not rate_hz > 0:
            raise UsageError(f"a rate must be greater than 0 Hz, not {rate_hz}")
        period_s = 1.0 / rate_hz
        self._due_s: Callable[[int], float] = lambda tick: tick * period_s
        self._catch_up_s = catch_up_s
        self._clock = clock
        self._sleep = sleep
        self._start_s: float | None = None
        self._ticks = 0
        self._lateness_s = np.zeros(_KEPT)
        self._recorded = 0
        self._max_s = 0.0
        self.shifted_s = 0.0
        """Time given up because the pacer fell further behind than ``catch_up_s``."""

    @classmethod
    def along(
        cls,
        due_s: Callable[[int], float],
        *,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Self:
        """A pacer whose tick k is due ``due_s(k)`` seconds after the first `wait`; ``due_s`` never goes back."""
        pacer = cls(1.0, clock=clock, sleep=sleep)
        pacer._due_s = due_s
        return pacer

    def wait(self, should_stop: Callable[[], bool]) -> bool:
        """Wait until the next tick is due; False if ``should_stop`` said so while waiting."""
        if self._start_s is None:
            self._start_s = self._clock()
        due_s = self._start_s + self._due_s(self._ticks)
        while (left_s := due_s - self._clock()) > 0:
            if left_s > _SPIN_S:
                if should_stop():
                    return False
                self._sleep(min(left_s - _SPIN_S, _LONGEST_SLEEP_S))
            else:
                # Sleeping for nothing yields the processor and the interpreter lock to the network threads.
                self._sleep(0)
        self._record(-left_s)
        self._ticks += 1
        return True

    def jitter(self) -> Jitter:
        """Lateness so far; all zero before the first tick."""
        kept = self._lateness_s[: min(self._recorded, _KEPT)]
        p50, p99 = np.percentile(kept, [50, 99]) if kept.size else (0.0, 0.0)
        return Jitter(p50_s=float(p50), p99_s=float(p99), max_s=self._max_s)

    def _record(self, late_s: float) -> None:
        self._lateness_s[self._recorded % _KEPT] = late_s
        self._recorded += 1
        self._max_s = max(self._max_s, late_s)
        if late_s > self._catch_up_s and self._start_s is not None:
            self._start_s += late_s - self._catch_up_s
            self.shifted_s += late_s - self._catch_up_s
