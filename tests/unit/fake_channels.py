"""Stand-ins for pvaccess.Channel and PvObjectQueue that say what a test tells them to."""

from collections import defaultdict
from typing import Any

import pytest


class FakeChannel:
    """Connected from the start, with nothing to show."""

    def __init__(self, name: str, *_provider: Any) -> None:
        self.name = name
        self.connected, self.received, self.stopped = True, 0, False
        self.queue: Any = None
        FAKE_CHANNELS.append(self)

    def qMonitor(self, queue: Any, request: str) -> None:  # noqa: N802
        self.queue = queue

    def stopMonitor(self) -> None:  # noqa: N802
        self.stopped = True

    def isConnected(self) -> bool:  # noqa: N802
        return self.connected

    def getMonitorCounters(self) -> dict[str, int]:  # noqa: N802
        return {"nReceived": self.received} if self.received else {}


class FakeQueue(list[Any]):
    """Takes as many updates as come."""

    def __init__(self, length: int) -> None:
        super().__init__()

    def get(self, timeout: float) -> Any:
        return self.pop(0)

    def getCounters(self) -> dict[str, int]:  # noqa: N802
        return {}


class FakeUpdate(dict[str, Any]):
    """A structure with the fields that it is given."""

    def hasField(self, name: str) -> bool:  # noqa: N802
        return name in self

    def getStructureDict(self) -> dict[str, Any]:  # noqa: N802
        return dict.fromkeys(self)


FAKE_CHANNELS: list[FakeChannel] = []


def put_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pvaccess have these from now on; `FAKE_CHANNELS` is empty then."""
    FAKE_CHANNELS.clear()
    monkeypatch.setattr("beamcast.pools.inputs._LEFT", defaultdict(list))
    monkeypatch.setattr("beamcast.pools.inputs._LOOKED_AT", {})
    monkeypatch.setattr("pvaccess.Channel", FakeChannel)
    monkeypatch.setattr("pvaccess.PvObjectQueue", FakeQueue)
