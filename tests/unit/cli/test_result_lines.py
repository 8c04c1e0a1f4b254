"""Results as lines, for people and as JSON."""

import json
from typing import Any

import numpy as np
import pvaccess
import pytest

from beamcast.cli.result_lines import as_json, as_text
from beamcast.pva.ndarray import make_ndarray
from beamcast.pva.results import Result


def result(fields: dict[str, Any], values: dict[str, Any], number: int | None = None) -> Result:
    return Result("a:pv", pvaccess.PvObject(fields, values), number)


def test_a_row_of_numbers() -> None:
    stamp = {"secondsPastEpoch": 1_700_000_000, "nanoseconds": 500_000_000, "userTag": 0}
    fields = {"uniqueId": pvaccess.LONG, "timeStamp": pvaccess.PvTimeStamp(), "total": pvaccess.DOUBLE}
    one = result(fields, {"uniqueId": 5, "timeStamp": stamp, "total": 2.5}, 5)
    assert json.loads(as_json(one)) == {
        "pv": "a:pv",
        "id": 5,
        "time": 1_700_000_000.5,
        "value": {"total": 2.5},
    }
    assert as_text(one).startswith("a:pv  id 5  2023-11-1")
    assert as_text(one).endswith("  total 2.5")


def test_what_is_no_number_in_json_is_null() -> None:
    one = result(
        {"a": pvaccess.DOUBLE, "b": [pvaccess.DOUBLE]}, {"a": float("nan"), "b": [1.0, float("inf")]}
    )
    assert json.loads(as_json(one))["value"] == {"a": None, "b": [1.0, None]}
    assert as_text(one) == "a:pv  no id  a -, b [1.0, None]"


def test_long_arrays_are_told_by_shape_dtype_and_ends() -> None:
    one = result(
        {"b": [pvaccess.INT], "c": {"d": [pvaccess.STRING]}}, {"b": list(range(100)), "c": {"d": ["x"]}}
    )
    shown = json.loads(as_json(one))["value"]
    assert shown == {"b": {"shape": [100], "dtype": "int32", "min": 0, "max": 99}, "c": {"d": ["x"]}}
    assert as_text(one) == "a:pv  no id  b 100 int32 min 0 max 99, c.d ['x']"


def test_an_image() -> None:
    pv = make_ndarray(np.arange(6, dtype=np.uint16).reshape(2, 3), frame_id=4, timestamp_s=0.0)
    pv["attribute"] = [{"name": "Gain", "value": pvaccess.PvObject({"value": pvaccess.INT}, {"value": 3})}]
    one = Result("a:pv", pv, 4)
    image = {"shape": [2, 3], "dtype": "uint16", "min": 0, "max": 5}
    assert json.loads(as_json(one)) == {
        "pv": "a:pv", "id": 4, "time": None, "value": {"image": image, "attributes": {"Gain": 3}}
    }  # fmt: skip
    assert as_text(one) == "a:pv  id 4  image 2x3 uint16 min 0 max 5, attributes.Gain 3"


def test_an_image_that_cannot_be_read_says_why() -> None:
    one = Result("a:pv", pvaccess.NtNdArray(), 0)
    assert as_text(one) == "a:pv  id 0  image can't be read: the NTNDArray holds no image: its value is empty"


@pytest.mark.parametrize("value", [7, "text", True])
def test_a_scalar(value: Any) -> None:
    kind = {int: pvaccess.INT, str: pvaccess.STRING, bool: pvaccess.BOOLEAN}[type(value)]
    one = result({"value": kind}, {"value": value})
    assert json.loads(as_json(one))["value"] == {"value": value}
