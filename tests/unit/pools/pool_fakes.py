"""A stand-in for pvaccess.PvaServer that keeps what is published and refuses what the real one refuses."""

from typing import Any


class FakeServer:
    def __init__(self) -> None:
        self.structures: dict[str, Any] = {}
        self.updates: list[tuple[str, Any]] = []

    def addRecord(self, channel: str, pv: Any) -> None:  # noqa: N802 - pvaccess's name
        self.structures[channel] = pv.getStructureDict()

    def update(self, channel: str, pv: Any) -> None:
        if pv.getStructureDict() != self.structures[channel]:
            raise ValueError("structure definitions do not match")
        self.updates.append((channel, pv.copy()))

    @property
    def published(self) -> list[Any]:
        return [pv for _, pv in self.updates]
