"""Records of EPICS normative types on a server of ours: NTScalar, NTTable, and the PVI tree that describes a device.

PVI: a structure whose ``value.<name>`` says how a PV is used: ``r`` read, ``rw`` read and write, ``x`` execute, ``d``
another such structure (ophyd-async builds a device from it).
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

NTSCALAR = "epics:nt/NTScalar:1.0"
NTTABLE = "epics:nt/NTTable:1.0"
NTPVI = "epics:nt/NTPVI:1.0"

Entry = Mapping[str, str]


def _stamped() -> dict[str, Any]:
    import pvaccess as pva

    return {
        "alarm": {"severity": pva.INT, "status": pva.INT, "message": pva.STRING},
        "timeStamp": {"secondsPastEpoch": pva.LONG, "nanoseconds": pva.INT, "userTag": pva.INT},
    }


def _type(kind: type) -> Any:
    import pvaccess as pva

    return {str: pva.STRING, int: pva.LONG, float: pva.DOUBLE}[kind]


def _now(pv: Any) -> None:
    now = time.time()
    pv["timeStamp"] = {"secondsPastEpoch": int(now), "nanoseconds": int(now % 1 * 1e9), "userTag": 0}


class Alarm(NamedTuple):
    """What clients show beside a value. `severity`: 0 none, 1 minor, 2 major, 3 invalid."""

    severity: int = 0
    message: str = ""


NO_ALARM = Alarm()
# As EPICS numbers it: the record itself raises the alarm.
_RECORD_STATUS = 3


class ScalarRecord:
    """One NTScalar that we publish."""

    def __init__(
        self, server: Any, channel: str, kind: type, *, units: str = "", description: str = ""
    ) -> None:
        self.channel = channel
        self._server = server
        self._shown: tuple[Any, Alarm] | None = None
        self._pv = _scalar(kind, units=units, description=description)
        server.addRecord(channel, self._pv.copy())

    def set(self, value: Any, alarm: Alarm = NO_ALARM) -> None:
        """Publish a value and its alarm, if they are others than the last."""
        if (value, alarm) == self._shown:
            return
        self._shown = (value, alarm)
        self._pv["value"] = value
        status = _RECORD_STATUS if alarm.severity else 0
        self._pv["alarm"] = {"severity": alarm.severity, "status": status, "message": alarm.message}
        _now(self._pv)
        self._server.update(self.channel, self._pv)


class OrderRecord:
    """One NTScalar into which clients write. What was written is handed to `written`, on any thread, and wiped off; why
    there is `look` says `beamcast.pva.control_pv`."""

    def __init__(self, server: Any, channel: str, kind: type, *, written: Callable[[Any], None]) -> None:
        self.channel = channel
        self._written = written
        self._nothing = kind()
        self._lock = threading.Lock()
        self._pv = _scalar(kind)
        server.addRecord(channel, self._pv, lambda pv: self.look())

    def look(self) -> None:
        """Take what was written, if anything."""
        with self._lock:
            value = self._pv["value"]
            if value == self._nothing:
                return
            self._pv["value"] = self._nothing
        self._written(value)


def _scalar(kind: type, *, units: str = "", description: str = "") -> Any:
    import pvaccess as pva

    shown = {"description": pva.STRING, "units": pva.STRING}
    if kind is not str:
        shown = {"limitLow": pva.DOUBLE, "limitHigh": pva.DOUBLE, **shown, "precision": pva.INT}
    pv = pva.PvObject({"value": _type(kind), **_stamped(), "display": shown}, NTSCALAR)
    pv["display.units"], pv["display.description"] = units, description
    if kind is float:
        pv["display.precision"] = 1
    _now(pv)
    return pv


class TableRecord:
    """One NTTable with fixed columns: name and type of each (str, int or float)."""

    def __init__(self, server: Any, channel: str, columns: Mapping[str, type]) -> None:
        import pvaccess as pva

        self.channel = channel
        self._server = server
        self._columns = tuple(columns)
        self._rows: Sequence[Sequence[Any]] = ()
        fields = {
            "labels": [pva.STRING],
            "value": {name: [_type(kind)] for name, kind in columns.items()},
            "descriptor": pva.STRING,
            **_stamped(),
        }
        self._pv = pva.PvObject(fields, {"labels": list(columns)}, NTTABLE)
        _now(self._pv)
        server.addRecord(channel, self._pv.copy())

    def set(self, rows: Sequence[Sequence[Any]]) -> None:
        """Publish the rows, each a value for each column, if they are others than the last."""
        if rows == self._rows:
            return
        self._rows = rows
        for number, name in enumerate(self._columns):
            self._pv[f"value.{name}"] = [row[number] for row in rows]
        _now(self._pv)
        self._server.update(self.channel, self._pv)


def add_pvi(server: Any, channel: str, entries: Mapping[str, Entry], *, description: str) -> None:
    """Serve the PVI structure of a device; `entries` by name, such as ``{"rate": {"r": "run:rate"}}``."""
    import pvaccess as pva

    value = {name: dict.fromkeys(entry, pva.STRING) for name, entry in entries.items()}
    fields = {"value": value, "display": {"description": pva.STRING}, **_stamped()}
    filled = {"value": {name: dict(entry) for name, entry in entries.items()}}
    pv = pva.PvObject(fields, {**filled, "display": {"description": description}}, NTPVI)
    _now(pv)
    server.addRecord(channel, pv)
