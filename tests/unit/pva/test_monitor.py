"""When a monitor is dead, told by a channel that says what it is told to."""

from typing import Any

import pytest

from beamcast.pva.fields import FirstValues
from beamcast.pva.monitor import FIRST_VALUE_S, LiveMonitor


class Channel:
    def __init__(self, name: str, provider: Any) -> None:
        self.connected, self.received, self.stopped = True, 0, False
        CHANNELS.append(self)

    def qMonitor(self, queue: Any, request: str) -> None:  # noqa: N802
        pass

    def stopMonitor(self) -> None:  # noqa: N802
        self.stopped = True

    def isConnected(self) -> bool:  # noqa: N802
        return self.connected

    def getMonitorCounters(self) -> dict[str, int]:  # noqa: N802
        return {"nReceived": self.received} if self.received else {}


CHANNELS: list[Channel] = []


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> LiveMonitor:
    CHANNELS.clear()
    monkeypatch.setattr("pvaccess.Channel", Channel)
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


class Update(dict[str, Any]):
    def hasField(self, name: str) -> bool:  # noqa: N802
        return name in self


def test_what_has_no_time_is_no_frame_where_frames_have_one() -> None:
    blank, frame = Update(timeStamp={"secondsPastEpoch": 0}), Update(timeStamp={"secondsPastEpoch": 7})
    values = FirstValues()
    values.note(blank)
    assert not values.holds(blank), "a source that never sets its time"
    values.note(frame)
    assert values.holds(blank)
    assert not values.holds(frame)
    assert not values.holds(Update(uniqueId=0)), "a structure without a time"
