"""A monitor whose search came at the wrong moment is replaced soon, by few, and never where turns are given."""

import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from beamcast.pools import inputs as module
from beamcast.pools.inputs import MOST_LOOKS, Inputs
from beamcast.pva.messages import Input


class FakeChannel:
    made: list["FakeChannel"]

    def __init__(self, name: str) -> None:
        self.name, self.connected, self.monitored = name, False, False
        self.made.append(self)

    def qMonitor(self, queue: Any, request: str) -> None:  # noqa: N802
        self.monitored = True

    def stopMonitor(self) -> None:  # noqa: N802
        self.monitored = False

    def isConnected(self) -> bool:  # noqa: N802
        return self.connected

    def getMonitorCounters(self) -> dict[str, int]:  # noqa: N802
        return {}


class FakeQueue(list[Any]):
    def __init__(self, length: int) -> None:
        super().__init__()

    def getCounters(self) -> dict[str, int]:  # noqa: N802
        return {}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[FakeChannel]:
    FakeChannel.made = []
    monkeypatch.setitem(
        sys.modules, "pvaccess", SimpleNamespace(Channel=FakeChannel, PvObjectQueue=FakeQueue)
    )
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.01)
    return FakeChannel.made


def following(*requests: str) -> Inputs:
    one = Inputs(queue_length=10, id_fields=("uniqueId",), epoch=0)
    one.follow(
        tuple(
            Input(channel=f"c{number}", request=request, producer=number)
            for number, request in enumerate(requests)
        )
    )
    return one


def look_for_a_while(one: Inputs) -> None:
    ends = time.monotonic() + 0.3
    while time.monotonic() < ends:
        assert not one.probed()
        time.sleep(0.001)


def test_a_channel_that_is_not_found_is_looked_for_anew_a_few_times(made: list[FakeChannel]) -> None:
    one = following("field()", "field()")
    made[1].connected = True  # its update is on its way
    look_for_a_while(one)
    assert [each.name for each in made] == ["c0", "c1"] + ["c0"] * (MOST_LOOKS - 1)
    assert [each.name for each in made if each.monitored] == ["c1", "c0"]
    assert [channel.spec.channel for channel in one.channels] == ["c0", "c1"]


def test_a_monitor_with_turns_is_left_alone(made: list[FakeChannel]) -> None:
    look_for_a_while(following("field(_[distributor=group:g])"))
    assert len(made) == 1
