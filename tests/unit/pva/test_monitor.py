"""When a monitor is dead, told by a channel that says what it is told to."""

import pytest

from beamcast.pva.fields import FirstValues, monitor_request
from beamcast.pva.monitor import FIRST_VALUE_S, LiveMonitor
from unit.fake_channels import FAKE_CHANNELS as CHANNELS
from unit.fake_channels import FakeUpdate as Update
from unit.fake_channels import put_in_place


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> LiveMonitor:
    put_in_place(monkeypatch)
    return LiveMonitor("a", "field()", queue_length=10)


def test_one_that_rests_lives(monitor: LiveMonitor) -> None:
    CHANNELS[0].received = 5
    assert not any(monitor.dead(second) for second in range(100))


def test_one_that_shows_a_value_after_a_reconnect_lives(monitor: LiveMonitor) -> None:
    CHANNELS[0].received = 5
    CHANNELS[0].connected = False
    assert not monitor.dead(0.0)
    CHANNELS[0].connected, CHANNELS[0].received = True, 6
    assert not any(monitor.dead(second) for second in range(1, 100))


def test_one_that_shows_nothing_after_a_reconnect_is_dead_until_it_is_reopened(monitor: LiveMonitor) -> None:
    CHANNELS[0].received = 5
    CHANNELS[0].connected = False
    assert not monitor.dead(0.0)
    CHANNELS[0].connected = True
    assert not monitor.dead(10.0)
    assert not monitor.dead(10.0 + FIRST_VALUE_S)
    assert monitor.dead(10.1 + FIRST_VALUE_S)
    monitor.reopen()
    assert CHANNELS[0].stopped
    assert len(CHANNELS) == 2
    assert not any(monitor.dead(second) for second in range(20, 100))


def test_what_has_no_time_is_no_frame_where_frames_have_one() -> None:
    blank, frame = Update(timeStamp={"secondsPastEpoch": 0}), Update(timeStamp={"secondsPastEpoch": 7})
    values = FirstValues()
    values.note(blank)
    assert not values.holds(blank, 1, 5), "a source that never sets its time"
    values.note(frame)
    assert values.holds(blank, 1, 5)
    assert not values.holds(frame, 1, 5)
    assert not values.holds(blank, 6, 5), "an id that goes on"
    assert not values.holds(Update(uniqueId=0), 0, 5), "a structure without a time"


def test_what_a_record_shows_before_its_first_frame_is_none_whatever_its_id() -> None:
    """I5: 0 may be the id of the first frame."""
    blank, frame = Update(timeStamp={"secondsPastEpoch": 0}), Update(timeStamp={"secondsPastEpoch": 7})
    values = FirstValues()
    assert values.holds(blank, 0, None)
    assert values.holds(blank, 0, None), "once more, after a reconnect"
    assert not values.holds(frame, 0, None)
    untimed = FirstValues()
    assert untimed.holds(blank, 57, None)
    assert not untimed.holds(blank, 58, None), "a source that never sets its time"
    assert not FirstValues().holds(Update(uniqueId=0), 0, None)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ((), "field()"),
        (("uniqueId", "timeStamp"), "field(uniqueId,timeStamp)"),
        (("timeStamp.userTag", "timeStamp"), "field(timeStamp)"),
        (("timeStamp", "timeStamp.userTag"), "field(timeStamp)"),
        (("header.number", "timeStamp"), "field(header{number},timeStamp)"),
        (("header.number", "header.time"), "field(header{number,time})"),
        (("a.b.c", "a.b.d", "a.e"), "field(a{b{c,d},e})"),
        (("uniqueId", "uniqueId"), "field(uniqueId)"),
    ],
)
def test_a_request_names_no_field_twice(fields: tuple[str, ...], wanted: str) -> None:
    """I1, C12: pvaccess makes no monitor of one that does."""
    assert monitor_request(*fields, queue=7) == f"record[queueSize=7]{wanted}"
