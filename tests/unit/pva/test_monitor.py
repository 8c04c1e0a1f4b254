"""When a monitor is dead, told by a channel that says what it is told to."""

import pytest

from beamcast.pva.fields import FirstValues
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
    assert not values.holds(blank), "a source that never sets its time"
    values.note(frame)
    assert values.holds(blank)
    assert not values.holds(frame)
    assert not values.holds(Update(uniqueId=0)), "a structure without a time"
