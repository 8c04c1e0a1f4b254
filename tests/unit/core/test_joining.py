"""Joining metadata to frames: the rules, and properties against a plain search over all updates."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.core import joining
from beamcast.core.ids import Epoch, FrameId, FrameKey, frame_key
from beamcast.core.joining import Joiner, Match, MatchRule

MS = 1_000_000


def joiner(
    match: Match = "nearest", *, tolerance_ms: int | None = None, offset_ms: int = 0, wait_s: float = 1.0
) -> Joiner:
    tolerance_ns = None if tolerance_ms is None else tolerance_ms * MS
    rule = MatchRule("x", match, tolerance_ns=tolerance_ns, offset_ns=offset_ms * MS, wait_s=wait_s)
    return Joiner([rule])


def key(frame_id: int, epoch: int = 0) -> FrameKey:
    return frame_key(Epoch(epoch), FrameId(frame_id))


def values(join: Joiner) -> list[tuple[int, Any]]:
    return [(row.key, row.values[0]) for row in join.take()]


def test_an_update_at_the_time_of_the_frame_is_joined_at_once_in_either_order() -> None:
    join = joiner()
    join.update(0, 10 * MS, "a")
    join.frame(key(1), 10 * MS, now=0.0)
    assert values(join) == [(1, "a")]
    join.frame(key(2), 20 * MS, now=0.0)
    assert values(join) == []
    join.update(0, 20 * MS, "b")
    assert values(join) == [(2, "b")]


def test_nearest_waits_for_the_update_that_could_be_nearer() -> None:
    join = joiner("nearest")
    join.update(0, 8 * MS, "before")
    join.frame(key(1), 10 * MS, now=0.0)
    assert values(join) == []
    join.update(0, 11 * MS, "after")
    assert values(join) == [(1, "after")]


def test_nearest_takes_the_earlier_one_of_two_as_near() -> None:
    join = joiner("nearest")
    join.update(0, 9 * MS, "before")
    join.update(0, 11 * MS, "after")
    join.frame(key(1), 10 * MS, now=0.0)
    assert values(join) == [(1, "before")]


def test_previous_never_takes_a_later_value() -> None:
    join = joiner("previous")
    join.frame(key(1), 10 * MS, now=0.0)
    join.update(0, 11 * MS, "after")
    join.frame(key(2), 12 * MS, now=0.0)
    join.update(0, 13 * MS, "later")
    assert values(join) == [(1, None), (2, "after")]


def test_a_slow_channel_serves_all_frames_until_its_next_value_after_the_wait() -> None:
    join = joiner("previous", wait_s=0.1)
    join.update(0, 5 * MS, 1.5)
    for frame_id in (1, 2, 3):
        join.frame(key(frame_id), (10 + frame_id) * MS, now=float(frame_id))
    join.expire(now=2.1)
    assert values(join) == [(1, 1.5), (2, 1.5)]
    join.expire(now=3.05)
    assert values(join) == []
    join.expire(now=3.1)
    assert values(join) == [(3, 1.5)]


def test_frames_wait_for_updates_that_are_here_and_not_taken_yet() -> None:
    join = joiner(wait_s=0.1, tolerance_ms=1)
    join.frame(key(1), 10 * MS, now=0.0)
    join.expire(now=60.0, but={0})
    assert values(join) == []
    join.update(0, 10 * MS, "mine")
    assert values(join) == [(1, "mine")]


@pytest.mark.parametrize("match", ["nearest", "previous"])
def test_beyond_the_tolerance_a_value_does_not_belong_to_the_frame(match: Match) -> None:
    join = joiner(match, tolerance_ms=2)
    join.update(0, 7 * MS, "far")
    join.frame(key(1), 10 * MS, now=0.0)
    join.frame(key(2), 9 * MS, now=0.0)
    join.update(0, 20 * MS, "next")
    assert values(join) == [(1, None), (2, "far")]
    assert (join.columns[0].matched, join.columns[0].unmatched) == (1, 1)


def test_the_offset_is_added_to_the_times_of_the_metadata() -> None:
    join = joiner("nearest", tolerance_ms=0, offset_ms=-3)
    join.update(0, 13 * MS, "late clock")
    join.frame(key(1), 10 * MS, now=0.0)
    [row] = join.take()
    assert (row.values, row.times_ns) == (["late clock"], [13 * MS])


def test_a_frame_without_a_time_is_not_joined_by_time_and_does_not_hold_up_others() -> None:
    join = joiner("nearest")
    join.frame(key(1), None, now=0.0)
    join.update(0, 10 * MS, "a")
    join.frame(key(2), 10 * MS, now=0.0)
    assert values(join) == [(1, None), (2, "a")]


def test_an_update_without_a_time_is_counted_and_never_joined_by_time() -> None:
    join = joiner("previous", wait_s=0.1)
    join.update(0, None, "never")
    join.frame(key(1), 10 * MS, now=0.0)
    join.expire(now=1.0)
    assert values(join) == [(1, None)]
    assert join.columns[0].unusable == 1


def test_metadata_that_comes_too_late_leaves_its_frame_alone_and_the_next_ones_right() -> None:
    join = joiner("nearest", tolerance_ms=1, wait_s=0.1)
    join.frame(key(1), 10 * MS, now=0.0)
    join.expire(now=0.2)
    join.update(0, 10 * MS, "too late")
    join.frame(key(2), 20 * MS, now=0.2)
    join.update(0, 20 * MS, "in time")
    assert values(join) == [(1, None), (2, "in time")]


def test_rows_leave_in_the_order_of_the_frames() -> None:
    join = Joiner([MatchRule("x", "id", wait_s=1.0), MatchRule("y", "id", wait_s=0.1)])
    join.frame(key(1), None, now=0.0)
    join.frame(key(2), None, now=0.0)
    for number in (0, 1):
        join.update(number, None, "two", frame_id=2)
    assert join.take() == []
    join.update(0, None, "one", frame_id=1)
    join.expire(now=0.5)
    assert [row.values for row in join.take()] == [["one", None], ["two", "two"]]


def test_by_id_an_update_without_an_id_is_counted() -> None:
    join = joiner("id")
    join.update(0, 1, "lost")
    assert join.columns[0].unusable == 1


def test_by_id_a_tolerance_is_kept_too_where_both_times_are_known() -> None:
    join = joiner("id", tolerance_ms=1)
    join.update(0, 50 * MS, "other life", frame_id=1)
    join.frame(key(1), 10 * MS, now=0.0)
    join.update(0, None, "no time", frame_id=2)
    join.frame(key(2), 20 * MS, now=0.0)
    assert values(join) == [(1, None), (2, "no time")]


def test_by_id_a_new_life_of_the_source_does_not_meet_old_values() -> None:
    join = joiner("id")
    for frame_id in (1, 2, 3):
        join.update(0, None, f"old {frame_id}", frame_id=frame_id)
    join.frame(key(1), None, now=0.0)
    join.update(0, None, "new 1", frame_id=1)
    join.frame(key(1, epoch=1), None, now=0.0)
    join.frame(key(2, epoch=1), None, now=0.0)
    join.expire(now=5.0)
    assert values(join) == [(1, "old 1"), (key(1, 1), "new 1"), (key(2, 1), None)]


def test_by_id_a_negative_id_is_the_one_that_the_key_holds() -> None:
    join = joiner("id")
    join.update(0, None, "wrapped", frame_id=-5)
    join.frame(frame_key(Epoch(0), FrameId(-5)), None, now=0.0)
    assert [value for _, value in values(join)] == ["wrapped"]


def test_nothing_grows_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "HISTORY", 10)
    monkeypatch.setattr(joining, "MAX_WAITING", 20)
    join = Joiner([MatchRule("t", "nearest"), MatchRule("i", "id")])
    for frame_id in range(200):
        join.update(0, frame_id, frame_id)
        join.update(1, None, frame_id, frame_id=frame_id + 10**6)
        join.frame(key(frame_id), 10**9, now=float(frame_id))
        join.take()
        assert join.waiting <= 20
    column: Any = join.columns[0]
    other: Any = join.columns[1]
    assert len(column._times) < 20
    assert len(other._found) <= 10


TIMES = st.lists(st.integers(0, 60), min_size=1, max_size=40)


@given(
    updates=TIMES,
    frames=TIMES,
    match=st.sampled_from(["nearest", "previous"]),
    tolerance=st.integers(0, 20),
    data=st.data(),
)
def test_whatever_the_order_of_arrival_the_answer_is_that_of_a_search_over_all_updates(
    updates: list[int], frames: list[int], match: Match, tolerance: int, data: st.DataObject
) -> None:
    join = Joiner([MatchRule("x", match, tolerance_ns=tolerance, wait_s=1.0)])
    times = sorted(set(updates))
    frames = sorted(frames)
    pending = [("update", time) for time in times]
    arrivals = [("frame", time) for time in frames]
    events = []
    while pending or arrivals:
        source = pending if not arrivals or (pending and data.draw(st.booleans())) else arrivals
        events.append(source.pop(0))
    at_once: list[joining.Update] = []
    for number, (what, time) in enumerate(events):
        if what == "update":
            at_once.append((time, time, None))
        if at_once and (what == "frame" or data.draw(st.booleans())):
            join.updates(0, at_once)
            at_once = []
        if what == "frame":
            join.frame(key(number), time, now=0.0)
    join.updates(0, at_once)
    join.expire(now=10.0)
    rows = join.take()
    assert len(rows) == len(frames)
    for row in rows:
        assert row.time_ns is not None
        here = [time for time in times if match == "nearest" or time <= row.time_ns]
        best = min((abs(time - row.time_ns) for time in here), default=tolerance + 1)
        got = row.values[0]
        if best > tolerance:
            assert got is None
        else:
            assert abs(got - row.time_ns) == best
            assert match == "nearest" or got <= row.time_ns


IDS = st.lists(st.integers(0, 30), unique=True, max_size=30)


@given(IDS, IDS)
def test_by_id_a_frame_gets_its_own_value_or_none(frames: list[int], updates: list[int]) -> None:
    join = joiner("id")
    for frame_id in sorted(frames):
        join.frame(key(frame_id), None, now=0.0)
    for frame_id in sorted(updates):
        join.update(0, None, frame_id, frame_id=frame_id)
    join.expire(now=10.0)
    assert values(join) == [(i, i if i in updates else None) for i in sorted(frames)]
