"""The collector's reorder window."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.core.reorder import ReorderWindow

FOREVER = 1e9


def window(producers: int, *, capacity: int = 10_000, max_wait_s: float = FOREVER) -> ReorderWindow[str]:
    made: ReorderWindow[str] = ReorderWindow(capacity=capacity, max_wait_s=max_wait_s)
    for producer in range(producers):
        made.add_producer(producer)
    return made


def keys(out: list[tuple[int, str]]) -> list[int]:
    return [key for key, _ in out]


@st.composite
def streams(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """Producers and their pushes, interleaved at random; the keys of each producer increase."""
    owners = draw(st.lists(st.integers(0, 4), max_size=80))
    queues: dict[int, list[int]] = {}
    for key, owner in enumerate(owners):
        queues.setdefault(owner, []).append(key)
    pushes = [(owner, queues[owner].pop(0)) for owner in draw(st.permutations(owners))]
    return 5, pushes


@given(streams())
def test_interleaved_producers_come_out_in_order_and_complete(
    case: tuple[int, list[tuple[int, int]]],
) -> None:
    producers, pushes = case
    reorder = window(producers)
    out = []
    for producer, key in pushes:
        reorder.push(producer, key, f"item {key}", 0.0)
        out += reorder.ready(0.0)
    out += reorder.flush()
    assert out == [(key, f"item {key}") for key in range(len(pushes))]
    assert (reorder.held, reorder.late, reorder.duplicates) == (0, 0, 0)


@given(streams())
def test_nothing_leaves_that_a_producer_could_still_precede(case: tuple[int, list[tuple[int, int]]]) -> None:
    producers, pushes = case
    reorder = window(producers)
    last = dict.fromkeys(range(producers), -1)
    pushed: set[int] = set()
    released: set[int] = set()
    for producer, key in pushes:
        # No two keys are neighbours: any number of them may be missing.
        spaced = 2 * key + 1
        reorder.push(producer, spaced, "", 0.0)
        last[producer] = spaced
        pushed.add(spaced)
        released.update(keys(reorder.ready(0.0)))
        assert released == {each for each in pushed if each <= min(last.values())}


@given(streams())
def test_a_key_leaves_as_soon_as_all_below_it_are_there(case: tuple[int, list[tuple[int, int]]]) -> None:
    producers, pushes = case
    reorder = window(producers)
    pushed: set[int] = set()
    released: set[int] = set()
    for producer, key in pushes:
        reorder.push(producer, key, "", 0.0)
        pushed.add(key)
        released.update(keys(reorder.ready(0.0)))
        missing = next(each for each in range(len(pushes) + 1) if each not in pushed)
        assert released == set(range(missing))


events = st.lists(
    st.tuples(
        st.sampled_from(["push", "push", "push", "push", "add", "retire", "wait"]),
        st.integers(0, 3),
        st.integers(0, 40),
        st.floats(0, 2),
    ),
    max_size=120,
)


@given(events, st.integers(0, 8), st.floats(0, 3))
def test_every_key_leaves_once_whatever_happens(
    script: list[tuple[str, int, int, float]], capacity: int, max_wait_s: float
) -> None:
    reorder = window(2, capacity=capacity, max_wait_s=max_wait_s)
    now, pushes, out, top, late = 0.0, [], [], -1, 0
    for event, producer, key, pause in script:
        now += pause if event == "wait" else 0.0
        if event == "push":
            reorder.push(producer, key, str(key), now)
            pushes.append(key)
        elif event == "add":
            reorder.add_producer(producer)
        elif event == "retire":
            reorder.retire_producer(producer)
        batch = reorder.ready(now)
        out += batch
        in_order = [each for each in keys(batch) if each > top]
        late += len(batch) - len(in_order)
        assert in_order == sorted(in_order)
        assert reorder.held <= capacity
        top = max([top, *in_order])
    out += reorder.flush()
    assert sorted(keys(out)) == sorted(set(pushes))
    assert all(item == str(key) for key, item in out)
    assert reorder.duplicates == len(pushes) - len(set(pushes))
    assert reorder.late == late
    assert reorder.held == 0


def test_a_producer_that_has_sent_nothing_holds_back() -> None:
    reorder = window(2)
    reorder.push(0, 10, "", 0.0)
    assert reorder.ready(0.0) == []
    reorder.push(1, 20, "", 0.0)
    assert keys(reorder.ready(0.0)) == [10]
    assert reorder.held == 1


def test_a_quiet_producer_holds_back_no_longer_than_the_wait() -> None:
    reorder = window(2, max_wait_s=1.0)
    reorder.push(0, 1, "", 10.0)
    assert reorder.ready(10.9) == []
    assert keys(reorder.ready(11.0)) == [1]
    reorder.push(0, 3, "", 11.1)
    assert keys(reorder.ready(11.1)) == [3]


def test_producers_that_fall_quiet_together_are_waited_for_once() -> None:
    reorder = window(3, max_wait_s=1.0)
    for producer, key in ((0, 10), (1, 20), (2, 30), (2, 40), (2, 50)):
        reorder.push(producer, key, "", 10.0)
    assert keys(reorder.ready(10.0)) == [10]
    assert keys(reorder.ready(11.0)) == [20, 30, 40, 50]


def test_a_producer_takes_part_again_once_it_pushes() -> None:
    reorder = window(2, max_wait_s=1.0)
    reorder.push(0, 10, "", 0.0)
    reorder.ready(1.0)
    reorder.push(1, 20, "", 1.0)
    reorder.push(0, 50, "", 1.1)
    assert keys(reorder.ready(1.1)) == [20]
    reorder.push(1, 60, "", 1.2)
    assert keys(reorder.ready(1.2)) == [50]


def test_after_a_pause_of_the_whole_stream_producers_wait_for_each_other() -> None:
    reorder = window(2, max_wait_s=1.0)
    reorder.push(0, 10, "", 0.0)
    reorder.push(1, 20, "", 0.0)
    reorder.push(0, 30, "", 0.0)
    assert keys(reorder.ready(0.0)) == [10, 20]
    reorder.push(1, 40, "", 0.1)
    assert keys(reorder.ready(0.1)) == [30]
    reorder.push(0, 50, "", 0.2)
    assert keys(reorder.ready(0.2)) == [40]
    reorder.push(0, 70, "", 60.0)
    reorder.push(1, 60, "", 60.001)
    assert keys(reorder.ready(60.001)) == [50, 60]


def test_who_was_quiet_at_the_end_is_waited_for_after_a_pause() -> None:
    reorder = window(2, max_wait_s=1.0)
    reorder.push(0, 10, "", 0.0)
    reorder.push(1, 20, "", 0.0)
    reorder.push(0, 30, "", 0.0)
    assert keys(reorder.ready(0.0)) == [10, 20]
    assert keys(reorder.ready(1.1)) == [30]  # producer 1 stays quiet, as everybody does
    reorder.push(0, 50, "", 60.0)
    assert keys(reorder.ready(60.0)) == []
    reorder.push(1, 40, "", 60.1)
    reorder.push(1, 60, "", 60.1)
    assert keys(reorder.ready(60.1)) == [40, 50]
    assert reorder.late == 0


def test_a_dead_producer_is_waited_for_once_after_a_pause() -> None:
    reorder = window(2, max_wait_s=1.0)
    out: list[int] = []
    for step in range(100):
        reorder.push(0, 10 * step + 10, "", 60.0 + step * 0.1)
        out = keys(reorder.ready(60.0 + step * 0.1))
        assert reorder.held == (step + 1 if step < 10 else 0)
    assert out == [1000]


def test_a_late_key_is_handed_out_out_of_order_once() -> None:
    reorder = window(1)
    reorder.push(0, 5, "", 0.0)
    assert keys(reorder.ready(0.0)) == [5]
    reorder.push(7, 3, "late", 0.1)
    reorder.push(7, 3, "late again", 0.1)
    assert reorder.held == 1
    assert reorder.ready(0.1) == [(3, "late")]
    assert (reorder.late, reorder.duplicates) == (1, 1)


def test_a_retired_producer_holds_nothing_back() -> None:
    reorder = window(2)
    reorder.push(0, 1, "", 0.0)
    assert reorder.ready(0.0) == []
    reorder.retire_producer(1)
    reorder.retire_producer(1)
    assert keys(reorder.ready(0.0)) == [1]


def test_beyond_the_capacity_the_lowest_leave() -> None:
    reorder = window(2, capacity=3)
    for key in (4, 5, 8, 9, 12):
        reorder.push(0, key, "", 0.0)
    assert keys(reorder.ready(0.0)) == [4, 5]
    assert reorder.held == 3


def test_a_window_that_never_empties_still_excuses_a_dead_producer() -> None:
    reorder = window(3, max_wait_s=1.0)
    out = []
    for step in range(40):
        now = step * 0.1
        for producer in (0, 1) if step > 5 else (0, 1, 2):
            reorder.push(producer, 3 * step + producer, "", now)
        out += keys(reorder.ready(now))
        if 6 < step < 15:
            assert out[-1] == 3 * 6 + 1, "the next key is that of the dead one"
    assert out == [key for key in range(3 * 39 + 1 + 1) if key % 3 != 2 or key <= 3 * 5 + 2]


def test_a_key_with_none_missing_below_it_waits_for_nobody() -> None:
    reorder = window(2)
    reorder.push(0, 10, "", 0.0)
    reorder.push(1, 12, "", 0.0)
    assert keys(reorder.ready(0.0)) == [10], "lower ones may come until the other one has passed"
    reorder.push(0, 11, "", 0.1)
    assert keys(reorder.ready(0.1)) == [11, 12]
    reorder.push(0, 14, "", 0.2)
    assert reorder.ready(0.2) == [], "13 may come"


def test_what_is_made_again_for_a_dead_producer_is_not_held_back_by_it() -> None:
    reorder = window(3, max_wait_s=2.0)
    for producer, key in ((0, 1), (1, 2), (2, 3), (0, 4), (1, 5)):
        reorder.push(producer, key, "", 0.0)
    assert keys(reorder.ready(0.0)) == [1, 2, 3, 4, 5]
    # The third one dies with 6 and 9.
    for producer, key in ((0, 7), (1, 8), (0, 10), (1, 11)):
        reorder.push(producer, key, "", 0.1)
    assert reorder.ready(0.1) == []
    reorder.push(1, 6, "", 0.3)
    assert keys(reorder.ready(0.3)) == [6, 7, 8]
    reorder.push(0, 9, "", 0.31)
    assert keys(reorder.ready(0.31)) == [9, 10, 11]
    assert reorder.late == 0


@pytest.mark.parametrize(("capacity", "max_wait_s"), [(-1, 1.0), (1, -1.0)])
def test_negative_bounds_are_refused(capacity: int, max_wait_s: float) -> None:
    with pytest.raises(ValueError, match="negative"):
        ReorderWindow(capacity=capacity, max_wait_s=max_wait_s)
