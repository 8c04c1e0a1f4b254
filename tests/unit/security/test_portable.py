from typing import Any

import msgspec
import numpy as np
import pvaccess
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.pva.ndarray import make_ndarray
from beamcast.pva.portable import MIN_PART_BYTES, NotPortable, from_parts, to_parts

STRUCTURE = {
    "uniqueId": pvaccess.LONG,
    "text": pvaccess.STRING,
    "flag": pvaccess.BOOLEAN,
    "small": pvaccess.FLOAT,
    "huge": pvaccess.ULONG,
    "texts": [pvaccess.STRING],
    "flags": [pvaccess.BOOLEAN],
    "numbers": [pvaccess.DOUBLE],
    "inner": {"x": [pvaccess.SHORT], "deeper": {"y": pvaccess.BYTE}},
    "rows": [{"q": pvaccess.INT, "s": [pvaccess.STRING]}],
    "either": ({"i": pvaccess.INT, "many": [pvaccess.USHORT]},),
    "anything": (),
}


def same(one: Any, other: Any) -> bool:
    """Whether two objects have the same fields, types, order and values (as text, for NaN equals itself there)."""
    return repr(one.getStructureDict()) == repr(other.getStructureDict()) and repr(one.toDict()) == repr(
        other.toDict()
    )


def made() -> Any:
    pv = pvaccess.PvObject(STRUCTURE, "my:type:1.0")
    pv["huge"] = 2**64 - 1
    pv["small"] = 0.1
    pv["text"] = "Ångström"
    pv["texts"] = ["a", "", "é"]
    pv["flags"] = [True, False]
    pv["numbers"] = [float("nan"), float("-inf"), 1e-300]
    pv["inner"] = {"x": [-3, 4], "deeper": {"y": "\x05"}}
    pv["rows"] = [{"q": 1, "s": ["x"]}, {"q": 2, "s": []}]
    return pv


def test_every_kind_of_field_comes_back() -> None:
    pv = made()
    assert same(from_parts(to_parts(pv)), pv)
    pv["either"] = {"many": [1, 2, 3]}
    pv["anything"] = pvaccess.PvDouble(2.5)
    back = from_parts(to_parts(pv))
    assert same(back, pv)
    assert back.getSelectedUnionFieldName("either") == "many"
    assert back.getUnion("anything").getStructureDict() == {"value": pvaccess.DOUBLE}


def test_an_ndarray_with_attributes_comes_back() -> None:
    pv = make_ndarray(np.arange(12, dtype=np.uint16).reshape(3, 4), frame_id=5, timestamp_s=1.5)
    pv["attribute"] = [
        pvaccess.NtAttribute("Temp", pvaccess.PvFloat(3.5)),
        pvaccess.NtAttribute("Name", pvaccess.PvString("hi")),
    ]
    assert same(from_parts(to_parts(pv)), pv)
    assert str(from_parts(to_parts(pv.copy()))).startswith("epics:nt/NTNDArray:1.0")


def test_what_pvaccess_can_not_read_is_refused_by_name() -> None:
    pv = pvaccess.PvObject({"a": pvaccess.BYTE})
    pv["a"] = "é"
    with pytest.raises(NotPortable, match="not UTF-8"):
        to_parts(pv)


def test_an_object_without_type_ids_comes_back() -> None:
    pv = pvaccess.PvObject({"a": pvaccess.INT, "e": {"f": [pvaccess.INT]}}, {"a": 3})
    assert same(from_parts(to_parts(pv)), pv)


def test_long_arrays_are_parts_of_their_own_and_are_not_copied_on_the_way_out() -> None:
    pv = pvaccess.PvObject({"a": [pvaccess.UINT], "b": [pvaccess.UBYTE]})
    long = np.arange(MIN_PART_BYTES, dtype=np.uint32)
    pv["a"] = long
    pv["b"] = np.zeros(3, np.uint8)
    parts = to_parts(pv)
    assert len(parts) == 2
    assert np.shares_memory(parts[1], pv["a"])
    assert np.array_equal(from_parts([part.copy() for part in parts])["a"], long)


@given(
    st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.lists(st.integers(0, 255), max_size=50)
)
def test_numbers_come_back_exactly(whole: int, real: float, numbers: list[int]) -> None:
    pv = pvaccess.PvObject({"w": pvaccess.LONG, "r": pvaccess.DOUBLE, "n": [pvaccess.UBYTE]})
    pv["w"], pv["r"], pv["n"] = whole, real, numbers
    back = from_parts(to_parts(pv))
    assert (back["w"], back["r"], list(back["n"])) == (whole, real, numbers)


def packed(
    *, version: Any = 1, structure: Any, values: Any, ids: tuple[Any, ...] = ("", {})
) -> list[np.ndarray]:
    return [np.frombuffer(msgspec.msgpack.encode([version, structure, values, *ids]), np.uint8)]


def nested(depth: int) -> Any:
    kind: Any = 5
    for _ in range(depth):
        kind = {"x": kind}
    return kind


HOSTILE = {
    "version": packed(version=2, structure={"a": 5}, values=[1]),
    "no structure": packed(structure=5, values=1),
    "unknown type": packed(structure={"a": 12}, values=[1]),
    "truth as type": packed(structure={"a": True}, values=[1]),
    "negative type": packed(structure={"a": -1}, values=[1]),
    "odd kind": packed(structure={"a": ["pickle", 5]}, values=[b"x"]),
    "number as name": packed(structure={1: 5}, values=[1]),
    "text for number": packed(structure={"a": 5}, values=["1"]),
    "truth for number": packed(structure={"a": 5}, values=[True]),
    "too large": packed(structure={"a": 1}, values=[2**40]),
    "value missing": packed(structure={"a": 5, "b": 5}, values=[1]),
    "value too many": packed(structure={"a": 5}, values=[1, 2]),
    "no list": packed(structure={"a": ["array", 11]}, values=["abc"]),
    "odd bytes": packed(structure={"a": ["array", 5]}, values=[b"abc"]),
    "part 0": packed(structure={"a": ["array", 2]}, values=[0]),
    "part 9": packed(structure={"a": ["array", 2]}, values=[9]),
    "part -1": packed(structure={"a": ["array", 2]}, values=[-1]),
    "union": packed(structure={"a": ["any"]}, values=[[5, 1]]),
    "union of three": packed(structure={"a": ["any"]}, values=[[{"b": 5}, [1], 0]]),
    "not in union": packed(structure={"a": ["union", {"b": 5}]}, values=[[{"c": 5}, [1]]]),
    "ids": packed(structure={"a": 5}, values=[1], ids=(5, {})),
    "field ids": packed(structure={"a": 5}, values=[1], ids=("", {"a": 5})),
    "too few": packed(structure={"a": 5}, values=[1], ids=()),
    "deep": packed(structure=nested(60), values=[1]),
    "not msgpack": [np.frombuffer(b"\xc1\xff", np.uint8)],
    "empty": [np.zeros(0, np.uint8)],
    "a number": [np.frombuffer(b"\x05", np.uint8)],
}


@pytest.mark.parametrize("parts", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_are_an_error(parts: list[np.ndarray]) -> None:
    with pytest.raises(NotPortable):
        from_parts(parts)


@given(st.binary(max_size=100))
def test_rubbish_is_an_error(rubbish: bytes) -> None:
    with pytest.raises(NotPortable):
        from_parts([np.frombuffer(rubbish, np.uint8)])


def test_no_parts_at_all_are_an_error() -> None:
    with pytest.raises(NotPortable):
        from_parts([])
