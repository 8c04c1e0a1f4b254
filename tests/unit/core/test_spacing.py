"""Results that came together go out a little apart, and nothing is held back where many wait."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.core.spacing import FEW, MAX_DELAY_S, SMALL_S, Spacing


def published(arrivals: list[float], *, size_bytes: int = 100, update_s: float = 1e-5) -> list[float]:
    """When results that arrive at these times are published."""
    spacing, now, out = Spacing(), 0.0, []
    for at, arrived in enumerate(arrivals):
        now = max(now, arrived)
        waiting = sum(later <= now for later in arrivals[at + 1 :])
        now += spacing.wait_s(now, waiting=waiting, size_bytes=size_bytes)
        out.append(now)
        now += update_s
    return out


def test_a_burst_is_spread() -> None:
    """I2, P10: a client with a queue of two gets each."""
    times = published([0.0] * 5)
    assert times[0] == 0.0
    assert all(later - before >= SMALL_S for before, later in itertools.pairwise(times))


def test_those_that_come_one_by_one_are_not_held_back() -> None:
    arrivals = [at * 0.001 for at in range(100)]
    assert published(arrivals) == arrivals


def test_a_large_result_gets_more_time_and_a_few_of_any_size_are_spread() -> None:
    times = published([0.0] * (FEW + 1), size_bytes=16_000_000)
    assert times[1] - times[0] == pytest.approx(0.0165)


@given(st.integers(1, 2000), st.floats(1e-6, 0.01), st.integers(1, 40))
def test_nobody_waits_long(count: int, interval_s: float, burst: int) -> None:
    """The delay is bounded whatever the rate; only what cannot be published as fast as it comes is later."""
    arrivals = [at // burst * interval_s for at in range(count)]
    held = published(arrivals, update_s=0.0)
    delays = [out - came for out, came in zip(held, arrivals, strict=True)]
    assert max(delays) <= MAX_DELAY_S + (FEW + 2) * SMALL_S
