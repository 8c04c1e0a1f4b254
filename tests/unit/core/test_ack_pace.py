"""When a rank reports: by count, by time, whichever comes first."""

from hypothesis import given
from hypothesis import strategies as st

from beamcast.core.ack_pace import AckPace


def test_nothing_done_is_nothing_to_report():
    pace = AckPace(window_frames=8, delay_s=0.05)
    assert not any(pace.due(0, now) for now in (0.0, 1.0, 100.0))


def test_half_a_window_is_reported_at_once():
    pace = AckPace(window_frames=8, delay_s=0.05)
    assert not pace.due(3, 0.0)
    assert pace.due(4, 0.001)
    assert pace.enough(4)
    assert not pace.enough(3)


def test_fewer_are_reported_when_they_have_waited():
    pace = AckPace(window_frames=8, delay_s=0.05)
    assert not pace.due(1, 10.0)
    assert not pace.due(2, 10.04)
    assert pace.due(2, 10.05)
    assert not pace.due(1, 10.06), "the waiting of the next ones begins anew"
    assert pace.due(1, 10.12)


def test_frames_taken_by_another_way_do_not_wait():
    pace = AckPace(window_frames=8, delay_s=0.05)
    assert not pace.due(1, 0.0)
    assert not pace.due(0, 0.04)
    assert not pace.due(1, 0.06)


def test_without_a_window_only_time_counts():
    pace = AckPace(window_frames=None, delay_s=0.05)
    assert not pace.enough(10**6)
    assert not pace.due(10**6, 0.0)
    assert pace.due(10**6, 0.05)


@given(
    window=st.integers(1, 100), steps=st.lists(st.tuples(st.integers(0, 5), st.floats(0, 0.1)), max_size=60)
)
def test_never_more_than_the_window_and_never_longer_than_the_delay(window, steps):
    """Whatever comes when: what is held back stays below half a window, and no longer than delay plus one look."""
    pace = AckPace(window_frames=window, delay_s=0.05)
    held, now, oldest = 0, 0.0, 0.0
    for done, pause in steps:
        now += pause
        if held == 0 and done:
            oldest = now
        held += done
        if pace.due(held, now):
            held = 0
        assert held < max(1, window // 2)
        assert held == 0 or now - oldest < 0.05
