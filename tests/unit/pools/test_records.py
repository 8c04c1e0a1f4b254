from typing import Any

import numpy as np
import pytest

from beamcast.core.errors import DataError, UsageError
from beamcast.pools.records import converted, converters, declared_record

OUTPUT = {
    "total": float,
    "count": int,
    "good": bool,
    "name": str,
    "peaks": list[float],
    "sizes": list[int],
    "names": list[str],
    "fit": {"width": float, "at": list[float]},
}
GOOD: dict[str, Any] = {
    "total": np.float32(2.5),
    "count": np.int64(4),
    "good": np.bool_(True),
    "name": "a",
    "peaks": np.arange(6)[::2],
    "sizes": (1, 2),
    "names": ["x", "y"],
    "fit": {"width": 1, "at": []},
}


def test_declared_fields_take_numpy_values_and_give_them_back_unchanged() -> None:
    record = declared_record(OUTPUT)
    for name, value in converted(converters(OUTPUT), GOOD).items():
        record[name] = value
    assert record["total"] == 2.5
    assert (record["count"], record["good"], record["name"]) == (4, True, "a")
    assert record["peaks"].tolist() == [0.0, 2.0, 4.0], "a strided array keeps its numbers"
    assert record["sizes"].tolist() == [1, 2]
    assert record["names"] == ["x", "y"]
    assert record["fit"]["width"] == 1.0
    assert record.hasField("uniqueId")
    assert record.hasField("timeStamp")


@pytest.mark.parametrize(
    "change",
    [
        {"total": None},
        {"total": "much"},
        {"total": [1, 2]},
        {"count": 2.5},
        {"count": float("nan")},
        {"count": float("inf")},
        {"name": 3},
        {"sizes": [1.5]},
        {"sizes": ["a"]},
        {"names": [1]},
        {"names": None},
        {"peaks": [1j]},
        {"peaks": [[1], [1, 2]]},
        {"fit": {"width": 1}},
        {"more": 1},
    ],
    ids=str,
)
def test_rubbish_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        converted(converters(OUTPUT), {**GOOD, **change})


def test_a_field_that_is_left_out_is_refused_since_it_would_keep_its_old_value() -> None:
    with pytest.raises(DataError, match="missing: total; not declared: totl"):
        converted(converters({"total": float}), {"totl": 1.0})


@pytest.mark.parametrize("kind", [complex, list, list[list[int]], dict, "float", None], ids=str)
def test_a_type_without_a_pvaccess_form_is_refused_at_the_start(kind: Any) -> None:
    with pytest.raises(UsageError, match="output field 'x'"):
        declared_record({"x": kind})


def test_our_own_fields_can_not_be_declared() -> None:
    with pytest.raises(UsageError, match="'uniqueId'"):
        declared_record({"uniqueId": int})
