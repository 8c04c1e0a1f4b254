import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.core.errors import UsageError
from beamcast.sim.pacing import Pacer

NEVER = lambda: False  # noqa: E731


class FakeTime:
    """A clock that only sleeping moves, late by ``wake_up_s`` as a kernel is."""

    def __init__(self, wake_up_s: float = 60e-6) -> None:
        self.now_s = 100.0
        self.wake_up_s = wake_up_s

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds + self.wake_up_s if seconds else 1e-6

    def pacer(self, rate_hz: float, catch_up_s: float = 0.02) -> Pacer:
        return Pacer(rate_hz, catch_up_s=catch_up_s, clock=self.clock, sleep=self.sleep)


@given(rate_hz=st.floats(0.5, 20_000), work_us=st.integers(0, 20))
def test_the_rate_does_not_drift_whatever_the_work_between_ticks(rate_hz: float, work_us: int) -> None:
    time = FakeTime()
    pacer = time.pacer(rate_hz)
    for _ in range(300):
        assert pacer.wait(NEVER)
        time.now_s += work_us * 1e-6
    assert time.now_s - 100.0 == pytest.approx(299 / rate_hz, abs=1e-4)
    assert pacer.jitter().max_s < 70e-6
    assert pacer.shifted_s == 0.0


def test_a_short_stall_is_made_up_for() -> None:
    time = FakeTime()
    pacer = time.pacer(1000)
    pacer.wait(NEVER)
    time.now_s += 0.015
    for _ in range(100):
        pacer.wait(NEVER)
    assert time.now_s - 100.0 == pytest.approx(0.1, abs=1e-4)
    assert pacer.jitter().max_s == pytest.approx(0.014, abs=1e-4)


def test_a_long_stall_moves_the_schedule_instead_of_bursting() -> None:
    time = FakeTime()
    pacer = time.pacer(1000, catch_up_s=0.02)
    pacer.wait(NEVER)
    time.now_s += 10.0
    resumed_s, burst = time.now_s, 0
    while time.now_s == resumed_s:
        pacer.wait(NEVER)
        burst += 1
    assert burst <= 22
    assert pacer.shifted_s == pytest.approx(10.0 - 0.001 - 0.02, abs=1e-3)


def test_a_slow_pacer_hears_a_request_to_stop() -> None:
    time = FakeTime()
    pacer = time.pacer(0.01)
    pacer.wait(NEVER)
    assert not pacer.wait(lambda: time.now_s > 101.0)
    assert time.now_s < 101.2


def test_jitter_is_zero_before_the_first_tick_and_bounded_in_memory() -> None:
    time = FakeTime()
    pacer = time.pacer(20_000)
    assert pacer.jitter().max_s == 0.0
    time.now_s += 1.0
    pacer.wait(NEVER)
    time.now_s += 0.01
    for _ in range(70_000):
        pacer.wait(NEVER)
    assert pacer.jitter().max_s > 0.009, "the maximum outlives the kept deviations"
    assert pacer.jitter().p99_s < 1e-4


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, float("nan")])
def test_a_rate_that_never_ticks_is_refused(rate_hz: float) -> None:
    with pytest.raises(UsageError, match="greater than 0 Hz"):
        Pacer(rate_hz)
