"""The metadata member when it has fallen behind: what waits is joined piece by piece."""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from beamcast.config.workflow import Metadata
from beamcast.core.errors import WorldError
from beamcast.members import metadata as module
from beamcast.members.metadata import TURN_UPDATES, MetadataMember
from beamcast.pva.messages import MetadataPlan

CHANNELS = ("m0", "m1")


class Monitor:
    """Of frames or metadata: update number n has time n and, of a frame, id n."""

    def __init__(self, channel: str, **rest: Any) -> None:
        self.name = channel
        self.seen_anything = True
        self.rejected = 0
        self.waiting: list[int] = []

    def take(self, at_most: int | None = None) -> list[tuple[int, float, int]]:
        taken, self.waiting = self.waiting[:at_most], self.waiting[at_most:]
        return [(number, float(number), number) for number in taken]

    def look(self, now: float) -> None:
        pass


class Server:
    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []

    def addRecord(self, channel: str, pv: Any) -> None:  # noqa: N802 - pvaccess's name
        pass

    def update(self, channel: str, pv: Any) -> None:
        self.batches.append((pv["firstId"], pv["lastId"]))


class Member:
    """Lets the member's loop turn so many times."""

    def __init__(self, turns: int) -> None:
        self._turns = iter(range(turns))
        self.serves: tuple[str, ...] = ()

    @property
    def abandoned(self) -> bool:
        return next(self._turns, None) is None

    def now(self, state: str) -> None:
        pass


def test_rows_go_out_before_all_that_waits_is_taken_and_nothing_expires_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monitors: dict[str, Monitor] = {}

    def monitor(channel: str, **rest: Any) -> Monitor:
        monitors[channel] = Monitor(channel)
        # The first frame is from before the run. One channel's updates are all there, the other's come later.
        monitors[channel].waiting = list(range(0 if channel == "frames" else 1, 10 * TURN_UPDATES))
        return monitors[channel]

    # Each look at the clock is an hour later: whatever may expire does.
    hours = itertools.count(0.0, 3600.0)
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: next(hours), sleep=slept.append)
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "MetadataMonitor", monitor)
    server = Server()
    plan = MetadataPlan(
        channel="md",
        frames="frames",
        id_field="uniqueId",
        timestamp_field="timeStamp",
        appear_timeout_s=1e9,
        metadata=tuple(Metadata(name=name, channel=name, tolerance=0.0) for name in CHANNELS),
    )
    one = MetadataMember(Member(14), server, plan)  # type: ignore[arg-type]
    one.go = True
    one.run()
    assert not any(each.waiting for each in monitors.values())
    assert len(server.batches) >= 10
    assert all(last - first < TURN_UPDATES + 1 for first, last in server.batches)
    assert server.batches[-1][1] == 10 * TURN_UPDATES - 1
    facts = one.collect().facts
    assert [facts[f"matched:{name}"] for name in CHANNELS] == [10 * TURN_UPDATES - 1] * 2
    # Ten turns without a nap take all of it; the other four found nothing.
    assert len(slept) == 4


@pytest.mark.parametrize(
    ("connected", "told", "hint"),
    [
        (True, r"temperature \(ca m0: connected, but it sends no value\)", "must not read"),
        (False, r"temperature \(ca m0\)", "IOCs running"),
    ],
)
def test_a_channel_that_denies_reading_is_told_from_one_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, connected: bool, told: str, hint: str
) -> None:
    """I11: it was asked whether the IOC was running, which it was."""

    class Silent(Monitor):
        def __init__(self, channel: str, **rest: Any) -> None:
            super().__init__(channel)
            self.seen_anything = channel == "frames"
            self.connected = connected

    monkeypatch.setattr(module, "MetadataMonitor", Silent)
    plan = MetadataPlan(
        channel="x",
        frames="frames",
        id_field="uniqueId",
        timestamp_field="timeStamp",
        appear_timeout_s=0.05,
        metadata=(Metadata(name="temperature", channel="m0", protocol="ca", absent="fail"),),
    )
    one = MetadataMember(Member(turns=1000), Server(), plan)  # type: ignore[arg-type]
    one.go = True
    with pytest.raises(WorldError, match=told) as raised:
        one.run()
    assert hint in str(raised.value.hint)
