"""Reading metadata updates, and batches of rows there and back."""

import math
from typing import Any

import numpy as np
import pvaccess
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.core.ids import FrameKey
from beamcast.core.joining import Row
from beamcast.pva.metadata import Rows, id_reader, pack_batch, time_reader, value_reader

VALUES = st.one_of(
    st.none(),
    st.floats(allow_nan=False),
    st.integers(-(2**70), 2**70).filter(lambda number: -(2**63) <= number < 2**64),
    st.text(max_size=5),
    st.booleans(),
)


def row(key: int, *values: Any, time_ns: int | None = None) -> Row:
    made = Row(FrameKey(key), time_ns, seen_at=0.0, columns=len(values))
    made.values[:] = values
    made.times_ns[:] = [time_ns] * len(values)
    return made


@given(
    st.lists(
        st.tuples(st.integers(0, 2**64 - 1), VALUES, VALUES),
        min_size=1,
        max_size=20,
        unique_by=lambda r: r[0],
    )
)
def test_every_row_is_found_with_its_values(rows: list[tuple[int, Any, Any]]) -> None:
    rows = sorted(rows, key=lambda each: each[0])
    batch = Rows(pack_batch([row(*each) for each in rows], serial=7))
    assert (len(batch), batch.serial, batch.again) == (len(rows), 7, False)
    for key, *values in rows:
        found = batch.find(key)
        assert found is not None
        assert [column.value(found) for column in batch.columns] == values
    taken = {key for key, *_ in rows}
    assert batch.find(next(key for key in range(50) if key not in taken)) is None


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.5, None, 3.0], float),
        ([1, None, 2**62], int),
        ([1, 2.0, None], object),
        ([2**63, 1, None], object),
    ],
)
def test_one_type_of_numbers_is_packed_and_any_mixture_comes_through(values: list[Any], kind: type) -> None:
    batch = Rows(pack_batch([row(key, value) for key, value in enumerate(values)], serial=1))
    got = [batch.columns[0].value(number) for number in range(3)]
    assert got == values
    assert all(isinstance(value, kind) for value in got if value is not None)


def test_arrays_times_and_nan_come_through() -> None:
    image = np.arange(6, dtype=np.uint16)
    batch = Rows(
        pack_batch([row(1, image, math.nan, time_ns=1_700_000_000_123_456_789), row(2, None, 0.5)], serial=1)
    )
    first = batch.columns[0].value(0)
    assert np.array_equal(first, image)
    assert first.dtype == image.dtype
    assert math.isnan(batch.columns[1].value(0))
    assert [batch.columns[0].time_ns(number) for number in (0, 1)] == [1_700_000_000_123_456_789, None]


@pytest.mark.parametrize("data", [b"", b"\x93", b"rubbish", pack_batch([], serial=1)])
def test_what_is_no_batch_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - msgspec's own words
        Rows(data)


def scalar(kind: Any, value: Any, **more: Any) -> Any:
    pv = pvaccess.PvObject({"value": kind, **{name: each[0] for name, each in more.items()}})
    pv["value"] = value
    for name, each in more.items():
        pv[name] = each[1]
    return pv


def stamped(seconds: int, nanoseconds: int) -> Any:
    pv = pvaccess.PvObject({"value": pvaccess.DOUBLE, "timeStamp": pvaccess.PvTimeStamp()})
    pv["timeStamp"] = {"secondsPastEpoch": seconds, "nanoseconds": nanoseconds, "userTag": 0}
    return pv


def test_times_are_read_to_the_nanosecond() -> None:
    pv = stamped(1_700_000_000, 123_456_789)
    assert time_reader(pv, "timeStamp")(pv) == 1_700_000_000_123_456_789


@pytest.mark.parametrize("seconds", [0, 631_152_000])
def test_a_record_that_was_never_processed_has_no_time(seconds: int) -> None:
    assert time_reader(stamped(seconds, 0), "timeStamp")(stamped(seconds, 0)) is None


@pytest.mark.parametrize(
    ("value", "time_ns"), [(1.5, 1_500_000_000), (math.nan, None), (math.inf, None), (0.0, None)]
)
def test_a_time_may_be_a_number_of_seconds(value: float, time_ns: int | None) -> None:
    pv = scalar(pvaccess.DOUBLE, 1.0, taken=(pvaccess.DOUBLE, value))
    assert time_reader(pv, "taken")(pv) == time_ns


def test_an_update_without_the_field_has_no_time_and_no_id() -> None:
    pv = scalar(pvaccess.DOUBLE, 1.0)
    assert time_reader(pv, "timeStamp")(pv) is None
    assert id_reader(pv, "uniqueId")(pv) is None
    assert id_reader(pv, "value")(pv) is None


@pytest.mark.parametrize(
    ("kind", "value"),
    [(pvaccess.INT, -3), (pvaccess.DOUBLE, 2.5), (pvaccess.STRING, "open"), (pvaccess.BOOLEAN, True)],
)
def test_scalars_are_read_as_what_they_are(kind: Any, value: Any) -> None:
    pv = scalar(kind, value)
    assert value_reader(pv)(pv) == value


def test_an_enumeration_is_read_as_the_text_of_its_choice() -> None:
    pv = pvaccess.PvObject({"value": {"index": pvaccess.INT, "choices": [pvaccess.STRING]}})
    pv["value"] = {"index": 1, "choices": ["closed", "open"]}
    assert value_reader(pv)(pv) == "open"
    pv["value"] = {"index": 9, "choices": ["closed", "open"]}
    assert value_reader(pv)(pv) == 9


def test_an_array_is_read_as_a_copy() -> None:
    pv = scalar([pvaccess.DOUBLE], [1.0, 2.0])
    assert value_reader(pv)(pv).tolist() == [1.0, 2.0]
