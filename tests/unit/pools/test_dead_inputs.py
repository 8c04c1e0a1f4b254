"""Inputs whose monitors are dead, with channels that say what they are told to."""

from typing import Any

import pytest

from beamcast.core.ids import FrameId
from beamcast.pools.inputs import Inputs
from beamcast.pva.messages import Input
from beamcast.pva.monitor import FIRST_VALUE_S


class Channel:
    def __init__(self, name: str) -> None:
        self.connected, self.received, self.stopped = True, 5, False
        CHANNELS.append(self)

    def qMonitor(self, queue: Any, request: str) -> None:  # noqa: N802
        pass

    def stopMonitor(self) -> None:  # noqa: N802
        self.stopped = True

    def isConnected(self) -> bool:  # noqa: N802
        return self.connected

    def getMonitorCounters(self) -> dict[str, int]:  # noqa: N802
        return {"nReceived": self.received}


class Queue(list[Any]):
    def __init__(self, length: int) -> None:
        super().__init__()

    def getCounters(self) -> dict[str, int]:  # noqa: N802
        return {}


CHANNELS: list[Channel] = []


@pytest.fixture
def inputs(monkeypatch: pytest.MonkeyPatch) -> Inputs:
    """Two channels; the second one was away, and its monitor is dead."""
    CHANNELS.clear()
    monkeypatch.setattr("pvaccess.Channel", Channel)
    monkeypatch.setattr("pvaccess.PvObjectQueue", Queue)
    one = Inputs(queue_length=10, id_fields=("uniqueId",), epoch=0)
    one.follow(tuple(Input(channel=f"c{number}", request="field()", producer=number) for number in range(2)))
    CHANNELS[1].connected = False
    one.look(0.0)
    CHANNELS[1].connected = True
    one.look(1.0)
    return one


def test_only_the_dead_one_is_monitored_anew_and_goes_on_in_its_epoch(inputs: Inputs) -> None:
    lives, tracker = inputs.channels[0], inputs.channels[1].tracker
    tracker.observe(FrameId(7))
    inputs.look(1.1 + FIRST_VALUE_S)
    inputs.revive()
    assert [each.stopped for each in CHANNELS] == [False, True, False]
    assert inputs.channels[0] is lives
    assert inputs.channels[1].tracker is tracker
    assert inputs.counters()[0] == 15, "what the dead one had received counts, once"
    inputs.look(100.0)
    assert not inputs.dead


def test_what_came_through_it_is_taken_first(inputs: Inputs) -> None:
    inputs.channels[1].queue.append("a frame")
    inputs.look(1.1 + FIRST_VALUE_S)
    assert not inputs.dead
    inputs.channels[1].queue.clear()
    inputs.look(1.2 + FIRST_VALUE_S)
    assert len(inputs.dead) == 1


def test_one_that_was_replaced_meanwhile_is_left_alone(inputs: Inputs) -> None:
    inputs.look(1.1 + FIRST_VALUE_S)
    dead = list(inputs.dead)
    inputs.revive()
    inputs.dead = dead  # as a look on another thread leaves it that had begun before
    inputs.revive()
    assert len(CHANNELS) == 3
    assert inputs.counters()[0] == 15
