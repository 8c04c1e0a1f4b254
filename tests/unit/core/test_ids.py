"""Keys, epochs and ranges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap64

from beamcast.core.ids import (
    ID_MASK,
    MAX_EPOCH,
    Epoch,
    EpochTracker,
    FrameId,
    FrameKey,
    format_ranges,
    frame_key,
    parse_ranges,
    split_key,
)

epochs = st.integers(0, MAX_EPOCH)
ids = st.integers(0, ID_MASK)
borders = st.sampled_from([0, 1, ID_MASK - 1, ID_MASK])
keys = st.builds(
    lambda epoch, frame_id: frame_key(Epoch(epoch), FrameId(frame_id)),
    st.sampled_from([0, 1, 2, MAX_EPOCH]),
    borders | st.integers(0, 40),
)


@given(epochs, ids)
def test_key_splits_into_what_it_was_made_of(epoch: int, frame_id: int) -> None:
    key = frame_key(Epoch(epoch), FrameId(frame_id))
    assert split_key(key) == (epoch, frame_id)
    assert 0 <= key < 2**64


@pytest.mark.parametrize("epoch", [-1, MAX_EPOCH + 1])
def test_epoch_outside_16_bits_is_refused(epoch: int) -> None:
    with pytest.raises(ValueError, match="epoch"):
        frame_key(Epoch(epoch), FrameId(1))


@given(st.lists(st.integers(-(2**50), 2**50), max_size=50))
def test_tracker_keys_never_decrease_and_keep_the_id(values: list[int]) -> None:
    tracker = EpochTracker()
    seen = [tracker.observe(FrameId(value)) for value in values]
    assert seen == sorted(seen)
    assert [split_key(key)[1] for key in seen] == [value & ID_MASK for value in values]


@given(st.lists(st.lists(st.integers(0, 1000), min_size=1, unique=True).map(sorted), min_size=1, max_size=6))
def test_tracker_begins_an_epoch_only_where_ids_go_back(lives: list[list[int]]) -> None:
    tracker = EpochTracker()
    expected = 0
    last = -1
    for life in lives:
        expected += life[0] < last
        for frame_id in life:
            assert split_key(tracker.observe(FrameId(frame_id))) == (expected, frame_id)
        last = life[-1]
    assert (tracker.epoch, tracker.last) == (expected, last)


def test_tracker_gives_a_repeated_id_the_same_key() -> None:
    tracker = EpochTracker(Epoch(3))
    assert tracker.last is None
    assert tracker.observe(FrameId(7)) == tracker.observe(FrameId(7)) == (3 << 48) + 7


def test_tracker_follows_an_int32_that_wraps() -> None:
    tracker = EpochTracker()
    seen = [tracker.observe(FrameId(value)) for value in (2**31 - 2, 2**31 - 1, -(2**31), -1, 0, 1)]
    assert seen == sorted(set(seen))
    assert tracker.epoch == 1


def test_tracker_refuses_more_epochs_than_fit() -> None:
    tracker = EpochTracker(Epoch(MAX_EPOCH))
    tracker.observe(FrameId(5))
    with pytest.raises(ValueError, match="epoch"):
        tracker.observe(FrameId(4))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], ""),
        ([0], "0"),
        ([1, 2, 3, 4, 5, 9], "1-5,9"),
        ([9, (1 << 48) + 1, (1 << 48) + 2], "9,e1:1-2"),
        ([ID_MASK, ID_MASK + 1], f"{ID_MASK},e1:0"),
        ([0, 2**64 - 2, 2**64 - 1], f"0,e{MAX_EPOCH}:{ID_MASK - 1}-{ID_MASK}"),
    ],
)
def test_ranges_as_text(values: list[int], text: str) -> None:
    assert format_ranges(values) == text
    assert parse_ranges(text) == BitMap64(values)


@given(st.sets(keys | ids.map(lambda value: FrameKey(value))))
def test_ranges_round_trip(values: set[int]) -> None:
    assert set(parse_ranges(format_ranges(values))) == values


@given(st.sets(st.integers(0, 60)), st.integers(0, 10))
def test_ranges_beyond_the_limit_are_counted(values: set[int], limit: int) -> None:
    whole = format_ranges(values).split(",") if values else []
    text = format_ranges(values, max_ranges=limit)
    if len(whole) <= limit:
        assert text == ",".join(whole)
    else:
        assert text == ",".join([*whole[:limit], f"… (+{len(whole) - limit} ranges)"])


def test_a_hundred_million_ids_in_one_run_need_no_loop() -> None:
    many = BitMap64()
    many.add_range(1, 100_000_001)
    many.discard(50_000_000)
    assert format_ranges(many) == "1-49999999,50000001-100000000"


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "1-",
        "-1",
        "5-1",
        "1,,2",
        "e:1",
        "1:2",
        "e1:",
        "e70000:1",
        "1,… (+3 ranges)",
        "0-9999999999",
        "²",
        "1" * 30,
    ],
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_ranges(text)


def test_ids_that_go_back_before_the_count_begins_stay_in_the_epoch() -> None:
    tracker = EpochTracker(counting=False)
    assert [tracker.observe(FrameId(number)) for number in (7, 8, 1, 2)] == [7, 8, 1, 2]
    tracker.counting = True
    assert [tracker.observe(FrameId(number)) for number in (2, 3, 1)] == [
        2,
        3,
        frame_key(Epoch(1), FrameId(1)),
    ]


def test_behind_a_collector_a_late_frame_begins_no_epoch_and_a_frame_once_more_does() -> None:
    seen: set[int] = set()
    tracker = EpochTracker(seen=seen)

    def come(frame_id: int) -> int:
        key = tracker.observe(FrameId(frame_id))
        seen.add(key)
        return key >> 48

    assert [come(each) for each in (5, 6, 8, 7, 9)] == [0] * 5
    assert come(6) == 1, "it has come in epoch 0 already"
    assert [come(each) for each in (8, 7, 9)] == [1] * 3
    assert come(2) == 2, "before the first id of the epoch"


def test_behind_a_collector_no_late_frame_moves_what_comes_next() -> None:
    seen: set[int] = set()
    tracker = EpochTracker(seen=seen)
    keys = []
    for each in (1, 4, 2, 3, 5):
        keys.append(tracker.observe(FrameId(each)))
        seen.add(keys[-1])
    assert keys == [1, 4, 2, 3, 5]


def test_who_joins_later_counts_on_from_a_frame_that_is_known() -> None:
    """P2: a rank that came back counted its epochs from the beginning."""
    told: list[int] = []
    tracker = EpochTracker(after=frame_key(Epoch(3), FrameId(40)), changed=lambda: told.append(tracker.epoch))
    assert tracker.reached == frame_key(Epoch(3), FrameId(40))
    assert tracker.observe(FrameId(41)) == frame_key(Epoch(3), FrameId(41))
    assert tracker.observe(FrameId(2)) == frame_key(Epoch(4), FrameId(2))
    assert (told, tracker.reached) == ([4], frame_key(Epoch(4), FrameId(2)))
    scan_later = EpochTracker(after=frame_key(Epoch(3), FrameId(40)))
    assert scan_later.last is None, "nothing has come, so nothing is a repeat"
    assert scan_later.observe(FrameId(1)) == frame_key(Epoch(4), FrameId(1))
    same = EpochTracker(after=frame_key(Epoch(3), FrameId(40)))
    assert same.observe(FrameId(40)) == frame_key(Epoch(3), FrameId(40))


def test_a_successor_goes_on_with_the_keys_that_had_come() -> None:
    """A result server that comes back between two scans dropped the results of the next one."""
    seen = BitMap64(frame_key(Epoch(2), FrameId(one)) for one in (1, 2, 5, 7))
    seen.add(frame_key(Epoch(1), FrameId(60)))
    again = EpochTracker(Epoch(2), seen=seen)
    assert again.observe(FrameId(6)) == frame_key(Epoch(2), FrameId(6)), "it comes late"
    seen.add(frame_key(Epoch(2), FrameId(6)))
    assert again.observe(FrameId(1)) == frame_key(Epoch(3), FrameId(1))
    first = EpochTracker(seen=BitMap64([3, 4]))
    assert first.observe(FrameId(3)) == frame_key(Epoch(1), FrameId(3))
    assert EpochTracker(Epoch(4), seen=seen).observe(FrameId(1)) == frame_key(Epoch(4), FrameId(1))


def test_an_epoch_of_which_nothing_came_is_counted_where_it_is_told() -> None:
    tracker = EpochTracker(Epoch(1), seen=BitMap64([frame_key(Epoch(1), FrameId(9))]))
    tracker.reach(frame_key(Epoch(1), FrameId(20)))
    assert tracker.last == 9
    tracker.reach(frame_key(Epoch(3), FrameId(40)))
    assert tracker.observe(FrameId(41)) == frame_key(Epoch(3), FrameId(41))
    tracker.reach(frame_key(Epoch(4), FrameId(40)))
    assert tracker.observe(FrameId(1)) == frame_key(Epoch(5), FrameId(1))
