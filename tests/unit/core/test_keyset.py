"""Key sets on the wire, and the small set operations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap64

from beamcast.core.keyset import count_from_key, decode_keys, encode_keys, from_key, union

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
