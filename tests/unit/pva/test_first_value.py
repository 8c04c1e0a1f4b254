"""First values are known, have no data of a frame, and keep the structure of what comes after them."""

from typing import Any

import numpy as np
import pvaccess
import pytest

from beamcast.pva.first_value import cleared, is_marked, mark
from beamcast.pva.ndarray import make_ndarray

STAMP = {"secondsPastEpoch": 1_700_000_000, "nanoseconds": 5, "userTag": 9}


def image(dtype: Any = np.uint8) -> Any:
    return make_ndarray(np.ones((4, 6), dtype=dtype), frame_id=7, timestamp_s=3.0)


def table() -> Any:
    """No image: scalars, arrays, a structure, unions."""
    fields = {
        "timeStamp": pvaccess.PvTimeStamp(),
        "gain": pvaccess.DOUBLE,
        "good": pvaccess.BOOLEAN,
        "name": pvaccess.STRING,
        "peaks": [pvaccess.DOUBLE],
        "words": [pvaccess.STRING],
        "rows": [{"a": pvaccess.INT}],
        "choice": ({"x": pvaccess.INT},),
        "any": (),
    }
    values = {"gain": 2.5, "good": True, "name": "x", "peaks": [1.0], "words": ["a"], "rows": [{"a": 1}]}
    made = pvaccess.PvObject(fields, values)
    made["timeStamp"] = STAMP
    return made


@pytest.mark.parametrize("make", [image, lambda: image(np.float64), lambda: image(np.int16), table])
def test_a_first_value_is_known_and_fits_the_record(make: Any) -> None:
    frame = make()
    assert not is_marked(frame)
    for first in (
        mark(frame.copy(), ("number", "uniqueId")),
        cleared(frame, ("uniqueId", "timeStamp.userTag")),
    ):
        assert is_marked(first)
        assert first.getStructureDict() == frame.getStructureDict()
    assert frame["timeStamp"]["secondsPastEpoch"], "the frame itself stays as it was"


def test_a_cleared_image_has_its_type_and_no_pixels() -> None:
    first = cleared(image(np.uint16), ("uniqueId",))
    assert first["uniqueId"] == 0
    assert first.getSelectedUnionFieldName("value") == "ushortValue"
    assert first["value"][0]["ushortValue"].size == 0
    assert first["dimension"] == []


def test_a_cleared_structure_has_no_values() -> None:
    first = cleared(table(), ("uniqueId",))
    assert (first["gain"], first["good"], first["name"]) == (0.0, False, "")
    assert (len(first["peaks"]), list(first["words"]), first["rows"]) == (0, [], [])


def test_an_id_in_the_time_stamp_is_cleared_with_it() -> None:
    assert mark(table(), ("timeStamp.userTag",))["timeStamp"] == {
        "secondsPastEpoch": 0,
        "nanoseconds": 1,
        "userTag": 0,
    }


def test_a_frame_without_a_time_is_a_frame() -> None:
    frame = image()
    frame["timeStamp"] = {"secondsPastEpoch": 0, "nanoseconds": 0, "userTag": 0}
    assert not is_marked(frame)
    number = pvaccess.PvObject({"value": pvaccess.LONG}, {"value": 0})
    assert not is_marked(mark(number, ("value",))), "it has no place for the mark"
