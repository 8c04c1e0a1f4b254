"""The run's own PVs at the beamline: state and numbers as NTScalar, so that any EPICS tool reads them."""

import time
from collections.abc import Callable
from typing import Any

from beamcast.observe.report import Report

_NTSCALAR = "epics:nt/NTScalar:1.0"
_NUMBERS = ("source", "received", "processed", "collected", "dropped", "failed", "lost", "duplicates")


class RunPvs:
    """Serves <prefix>:state, :reason, :rate, :frames:<number> and :control (write "stop" to end the run)."""

    def __init__(self, server: Any, prefix: str, *, stop: Callable[[], None]) -> None:
        import pvaccess as pva

        self._server = server
        self._prefix = prefix
        self._stop = stop
        self._values: dict[str, Any] = {}
        self._pvs: dict[str, Any] = {}
        for name in ("state", "reason"):
            self._add(name, pva.STRING)
        for name in _NUMBERS:
            self._add(f"frames:{name}", pva.LONG)
        self._add("rate", pva.DOUBLE)
        self._control = pva.PvObject({"value": pva.STRING, "timeStamp": pva.PvTimeStamp()}, _NTSCALAR)
        server.addRecord(f"{prefix}:control", self._control, self._written)

    def _add(self, name: str, kind: Any) -> None:
        import pvaccess as pva

        alarm = {"severity": pva.INT, "status": pva.INT, "message": pva.STRING}
        stamp = {"secondsPastEpoch": pva.LONG, "nanoseconds": pva.INT, "userTag": pva.INT}
        pv = pva.PvObject({"value": kind, "alarm": alarm, "timeStamp": stamp}, _NTSCALAR)
        self._pvs[name] = pv
        self._server.addRecord(f"{self._prefix}:{name}", pv.copy())

    @property
    def channels(self) -> tuple[str, ...]:
        """All channels that are served."""
        return (*(f"{self._prefix}:{name}" for name in self._pvs), f"{self._prefix}:control")

    def update(self, report: Report) -> None:
        """Publish what has changed."""
        self._set("state", report.state)
        self._set("reason", report.reason)
        self._set("rate", report.throughput.frames_per_s)
        for name in _NUMBERS:
            self._set(f"frames:{name}", getattr(report.frames, name))

    def _set(self, name: str, value: Any) -> None:
        if self._values.get(name) == value:
            return
        self._values[name] = value
        pv = self._pvs[name]
        now = time.time()
        pv["value"] = value
        pv["timeStamp"] = {"secondsPastEpoch": int(now), "nanoseconds": int(now % 1 * 1e9), "userTag": 0}
        self._server.update(f"{self._prefix}:{name}", pv)

    def _written(self, pv: Any) -> None:
        if str(pv["value"]).strip() == "stop":
            self._stop()
