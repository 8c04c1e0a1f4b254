"""When frames count as lost on their way to a rank."""

from beamcast.core.transit import LONGEST_S, PATIENCE_S, Transit


def test_a_rank_with_nothing_in_hand_has_lost_what_was_sent_to_it() -> None:
    transit = Transit()
    assert not transit.is_lost(0, 7, now=10.0)
    assert not transit.is_lost(0, 7, now=10.0 + PATIENCE_S - 0.1)
    assert transit.is_lost(0, 7, now=10.0 + PATIENCE_S)


def test_a_frame_that_comes_and_another_one_under_way_start_the_clock_again() -> None:
    transit = Transit()
    for second in range(20):
        assert not transit.is_lost(0, second, now=float(second))
    assert not transit.is_lost(0, 19, now=19.0 + PATIENCE_S - 0.1)


def test_a_rank_that_works_or_has_been_sent_nothing_has_lost_nothing() -> None:
    transit = Transit()
    assert not transit.is_lost(0, 7, now=0.0)
    transit.busy(0)
    assert not transit.is_lost(0, 7, now=9.0)
    assert not transit.is_lost(0, None, now=20.0)
    assert not transit.is_lost(0, 7, now=30.0)


def test_patience_doubles_with_each_mistake_until_frames_come() -> None:
    transit, now, waits = Transit(), 0.0, []
    for _ in range(7):
        began = now
        while not transit.is_lost(3, 7, now=now):
            now += 0.5
        waits.append(now - began)
        now += 0.5
    assert waits == [3.0, 6.0, 12.0, 24.0, 48.0, 60.0, 60.0]
    assert waits[-1] == LONGEST_S
    transit.arrived(3)
    assert not transit.is_lost(3, 7, now=now)
    assert transit.is_lost(3, 7, now=now + PATIENCE_S)


def test_ranks_are_told_apart() -> None:
    transit = Transit()
    assert not transit.is_lost(0, 7, now=0.0)
    assert not transit.is_lost(1, 7, now=2.9)
    assert transit.is_lost(0, 7, now=3.0)
    assert not transit.is_lost(1, 7, now=3.0)
