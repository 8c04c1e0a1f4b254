from hypothesis import given
from hypothesis import strategies as st

from beamcast.security.replay import WINDOW, ReplayWindow

COUNTERS = st.one_of(st.integers(0, 3 * WINDOW), st.integers(0, 2**64 - 1))


class NaiveWindow:
    """The same rule, remembered as a set."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def is_new(self, counter: int) -> bool:
        return counter not in self.seen and counter > max(self.seen, default=0) - WINDOW


@given(st.lists(COUNTERS, max_size=60))
def test_the_window_agrees_with_a_set(counters: list[int]) -> None:
    window, naive = ReplayWindow(), NaiveWindow()
    for counter in counters + counters:
        assert window.is_new(counter) == naive.is_new(counter)
        if window.is_new(counter):
            window.take(counter)
            naive.seen.add(counter)


@given(st.permutations(range(50)))
def test_any_order_inside_the_window_is_taken_once(counters: list[int]) -> None:
    window = ReplayWindow()
    for counter in counters:
        assert window.is_new(counter)
        window.take(counter)
    assert not any(window.is_new(counter) for counter in counters)


def test_edges_of_the_window() -> None:
    window = ReplayWindow()
    window.take(WINDOW)
    assert window.is_new(1)
    assert not window.is_new(0)
    window.take(1)
    assert not window.is_new(1)
    window.take(2 * WINDOW)
    assert not window.is_new(WINDOW)
    assert window.is_new(WINDOW + 1)
