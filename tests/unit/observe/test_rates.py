"""The rate of the last seconds."""

import pytest

from beamcast.observe.rates import RecentRates


def test_the_rate_is_that_of_the_last_seconds_and_not_of_the_whole_life() -> None:
    """P12: after a night without frames the rate of those that come now; 0 as soon as nothing has moved for a while."""
    rates = RecentRates(window_s=3.0)
    assert rates.look({"": 0}, now=0.0) == {"": 0.0}
    for second in range(1, 11):
        rate = rates.look({"": 100 * second}, now=float(second))
    assert rate == {"": pytest.approx(100.0)}
    for second in range(11, 15):
        rate = rates.look({"": 1000}, now=float(second))
    assert rate == {"": 0.0}
    night = 40_000.0
    rates.look({"": 1000}, now=night)
    assert rates.look({"": 1050}, now=night + 1.0) == {"": pytest.approx(50.0)}


def test_two_looks_in_quick_succession_do_not_shorten_the_window() -> None:
    rates = RecentRates(window_s=3.0)
    rates.look({"": 0}, now=0.0)
    for step in range(1, 101):
        rate = rates.look({"": step}, now=step / 100)
    assert rate == {"": pytest.approx(100.0)}


def test_a_new_name_and_a_count_that_went_back_are_no_trouble() -> None:
    rates = RecentRates()
    rates.look({"a/0": 50}, now=0.0)
    assert rates.look({"a/0": 40, "a/1": 10}, now=1.0) == {"a/0": 0.0, "a/1": 10.0}
