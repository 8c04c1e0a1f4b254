"""Gathering parts, against a model that remembers everything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap64

from beamcast.core.gather import PartGatherer


def gatherer(parts: int = 3, capacity: int = 100, max_wait_s: float = 2.0) -> PartGatherer[str]:
    return PartGatherer(parts=parts, capacity=capacity, max_wait_s=max_wait_s)


@given(st.data(), st.integers(2, 4), st.integers(1, 12))
def test_every_frame_comes_out_once_with_its_parts_in_order(
    data: st.DataObject, parts: int, count: int
) -> None:
    sent = [(key, part) for key in range(count) for part in range(parts)]
    repeated = data.draw(st.lists(st.sampled_from(sent)))
    order = data.draw(st.permutations(sent + repeated))
    one = gatherer(parts)
    made = {}
    for key, part in order:
        frame = one.push(key, part, f"{key}/{part}", now=0.0)
        if frame is not None:
            assert key not in made
            made[key] = frame
    assert made == {key: tuple(f"{key}/{part}" for part in range(parts)) for key in range(count)}
    assert one.held == one.incomplete == 0
    assert one.duplicates == len(repeated)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1), st.floats(0, 1)), max_size=40))
def test_what_is_held_is_bounded_and_nothing_is_forgotten(steps: list[tuple[int, int, float]]) -> None:
    one: PartGatherer[int] = PartGatherer(parts=2, capacity=3, max_wait_s=0.5)
    now, waiting, complete, given_up = 0.0, dict[int, tuple[set[int], float]](), set[int](), set[int]()
    for key, part, pause in steps:
        now += pause
        gone = [each for each, (_, began) in waiting.items() if began <= now - 0.5]
        assert one.give_up(now) == len(gone)
        given_up.update(gone)
        waiting = {each: state for each, state in waiting.items() if each not in gone}
        if key not in complete and key not in waiting and len(waiting) == 3:
            oldest = next(iter(waiting))
            given_up.add(oldest)
            del waiting[oldest]
        frame = one.push(key, part, part, now)
        if key in complete:
            assert frame is None
            continue
        have, _ = waiting.setdefault(key, (set(), now))
        have.add(part)
        assert frame == ((0, 1) if len(have) == 2 else None)
        if frame:
            complete.add(key)
            given_up.discard(key)
            del waiting[key]
        assert (one.held, one.incomplete) == (len(waiting), len(given_up))
        assert all(one.is_complete(each) == (each in complete) for each in range(6))


def test_a_frame_that_was_given_up_is_made_when_all_its_parts_come_again() -> None:
    one = gatherer(parts=2)
    assert one.push(7, 0, "old", now=0.0) is None
    assert one.give_up(1.9) == 0
    assert one.give_up(2.0) == 1
    assert (one.held, one.incomplete) == (0, 1)
    assert one.push(7, 1, "b", now=3.0) is None
    assert one.push(7, 0, "a", now=3.0) == ("a", "b")
    assert one.incomplete == 0


def test_at_the_end_everything_incomplete_is_given_up() -> None:
    one = gatherer()
    one.push(1, 0, "a", now=0.0)
    one.push(2, 0, "a", now=0.0)
    assert one.give_up_all() == 2
    assert (one.held, one.incomplete) == (0, 2)


def test_what_another_collector_has_published_is_not_made_again() -> None:
    one = gatherer(parts=2)
    one.complete_before(BitMap64([5]))
    assert one.push(5, 0, "a", now=0.0) is one.push(5, 1, "b", now=0.0) is None
    assert (one.held, one.duplicates) == (0, 2)


@pytest.mark.parametrize(("parts", "capacity", "wait"), [(1, 1, 0.0), (2, 0, 0.0), (2, 1, -1.0)])
def test_senseless_sizes_are_refused(parts: int, capacity: int, wait: float) -> None:
    with pytest.raises(ValueError, match="at least 2, 1, 0"):
        PartGatherer(parts=parts, capacity=capacity, max_wait_s=wait)


@pytest.mark.parametrize("part", [-1, 3])
def test_a_part_that_does_not_exist_is_refused(part: int) -> None:
    with pytest.raises(ValueError, match=r"outside 0\.\.2"):
        gatherer().push(1, part, "x", now=0.0)
