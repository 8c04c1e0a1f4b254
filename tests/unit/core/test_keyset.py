"""Key sets on the wire, and the small set operations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap64

from beamcast.core.ids import Epoch, FrameId, frame_key
from beamcast.core.keyset import count_from_key, count_gaps, decode_keys, encode_keys, from_key, gaps, union

keys = st.integers(0, 300) | st.integers(0, 2**64 - 1)


@given(st.lists(keys))
def test_keys_come_back(values: list[int]) -> None:
    assert set(decode_keys(encode_keys(values))) == set(values)
    assert encode_keys(BitMap64(values)) == encode_keys(values)


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="key set"):
        decode_keys(data)


@given(st.lists(keys, min_size=1), st.data())
def test_damage_is_refused(values: list[int], data: st.DataObject) -> None:
    good = encode_keys(values)
    position = data.draw(st.integers(0, len(good) - 1))
    flipped = bytearray(good)
    flipped[position] ^= data.draw(st.integers(1, 255))
    for bad in (bytes(flipped), good[:position], good + b"\0"):
        with pytest.raises(ValueError, match="key set"):
            decode_keys(bad)


def test_a_run_of_ids_is_small_on_the_wire() -> None:
    assert len(encode_keys(range(1, 60_001))) < 100


@given(st.sets(st.integers(0, 50)), st.integers(0, 60))
def test_keys_from_a_key_on(values: set[int], first: int) -> None:
    expected = {value for value in values if value >= first}
    assert set(from_key(BitMap64(values), first)) == expected
    assert count_from_key(BitMap64(values), first) == len(expected)


@given(st.lists(st.sets(st.integers(0, 50))))
def test_union_is_a_new_set(parts: list[set[int]]) -> None:
    maps = [BitMap64(part) for part in parts]
    assert set(union(maps)) == set().union(*parts)
    assert [set(each) for each in maps] == parts


@given(st.sets(st.integers(0, 60) | st.integers(2**48, 2**48 + 60)))
def test_gaps_are_what_is_missing_between_the_ids_of_an_epoch(values: set[int]) -> None:
    missing: set[int] = set()
    for epoch in (0, 1):
        within = {value for value in values if value >> 48 == epoch}
        if within:
            missing |= set(range(min(within), max(within))) - within
    found = list(gaps(BitMap64(values)))
    assert set().union(*(range(gap.first, gap.last + 1) for gap in found)) == missing
    assert all({gap.before, gap.after} <= values for gap in found)
    assert count_gaps(BitMap64(values)) == len(missing)


@pytest.mark.parametrize("epoch", [0, 3])
def test_an_int32_that_goes_past_its_highest_value_skips_nothing(epoch: int) -> None:
    """C13: `uniqueId` is one."""
    ids = [*range(2**31 - 5, 2**31), *range(-(2**31), -(2**31) + 5)]
    keys = BitMap64(frame_key(Epoch(epoch), FrameId(each)) for each in ids)
    assert count_gaps(keys) == 0
    assert list(gaps(keys)) == []
    keys -= BitMap64([frame_key(Epoch(epoch), FrameId(each)) for each in (2**31 - 1, -(2**31), -(2**31) + 2)])
    assert count_gaps(keys) == 3
    assert sum(gap.last - gap.first + 1 for gap in gaps(keys)) == 3
    wide = BitMap64([1, 2**33, frame_key(Epoch(0), FrameId(-1))])
    assert count_gaps(wide) == 2**48 - 4, "ids of 64 bits have no such hole"
