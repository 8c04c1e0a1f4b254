"""Metadata channels on one side, batches of joined rows on the other.

A batch travels as one record: how many rows and of which frames in plain fields, so that any EPICS tool shows that
something goes on, and the rows themselves as MessagePack in a byte array. Numbers are packed as arrays of one machine
type (little-endian on every machine that pvapy has wheels for): 1000 rows of six channels take 0.1 MB, and a rank that
needs three of them unpacks no more than those.
"""

import math
from array import array
from collections.abc import Callable, Sequence
from itertools import islice
from operator import itemgetter, methodcaller
from typing import Any, Literal

import msgspec
import numpy as np

from beamcast.core.errors import DataError
from beamcast.core.joining import Row, Update
from beamcast.core.times import has_time
from beamcast.pva.fields import GETTERS, INTEGER_GETTERS, field_type, monitor_request
from beamcast.pva.monitor import LiveMonitor

_NS_PER_S = 1_000_000_000
# Time of an update or value that has none; no clock is there.
NO_TIME = -(1 << 63)

# Updates that a server may hold for us: those of a second at 4 kHz while our connection stands still. Servers take the
# memory of each in turn, whether anything waits or not: with 20 000 the updates of seven channels are never in the
# cache, and each costs its server a quarter more.
SERVER_QUEUE_UPDATES = 4000

Reader = Callable[[Any], Any]


def time_reader(update: Any, name: str) -> Reader:
    """How to read the time of updates that look like `update`: nanoseconds since 1970, or None where it is missing.

    The field is a pvAccess time, or a number of seconds. An update without it has no time.
    """
    kind = field_type(update, name)
    if isinstance(kind, dict) and "secondsPastEpoch" in kind:
        seconds = methodcaller("getLong", f"{name}.secondsPastEpoch")
        nanoseconds = methodcaller("getInt", f"{name}.nanoseconds")

        def stamp(pv: Any) -> int | None:
            whole: int = seconds(pv)
            rest: int = nanoseconds(pv)
            return whole * _NS_PER_S + rest if has_time(whole, rest) else None

        return stamp
    getter = GETTERS.get(getattr(kind, "name", ""))
    if getter is None or getter in ("getBoolean", "getString"):
        return lambda pv: None
    number = methodcaller(getter, name)

    def plain(pv: Any) -> int | None:
        seconds_s: float = number(pv)
        if not math.isfinite(seconds_s) or not has_time(seconds_s):
            return None
        whole = math.floor(seconds_s)
        return whole * _NS_PER_S + round((seconds_s - whole) * _NS_PER_S)

    return plain


def value_reader(update: Any, name: str = "value") -> Reader:
    """How to read the value: a number or text as it is, an array as a copy, an enumeration as its choice's text."""
    kind = field_type(update, name)
    if isinstance(kind, dict) and {"index", "choices"} <= kind.keys():
        return lambda pv: _chosen(pv[name])
    if isinstance(kind, list):
        return lambda pv: np.array(pv[name])
    getter = GETTERS.get(getattr(kind, "name", ""))
    return methodcaller(getter, name) if getter else itemgetter(name)


def _chosen(value: Any) -> Any:
    index, choices = value["index"], value["choices"]
    return choices[index] if 0 <= index < len(choices) else index


def id_reader(update: Any, name: str) -> Reader:
    """How to read an id; None for each update where the field is missing or no integer."""
    kind = getattr(field_type(update, name), "name", "")
    return methodcaller(GETTERS[kind], name) if kind in INTEGER_GETTERS else lambda pv: None


class MetadataMonitor:
    """The updates of one channel: (time in ns or None, value, id or None). `take` is for one thread.

    Of a frame channel ask for the id alone: `value_field` None.
    """

    def __init__(
        self,
        channel: str,
        *,
        provider: Literal["pva", "ca"] = "pva",
        value_field: str | None = "value",
        timestamp_field: str = "timeStamp",
        id_field: str | None = None,
        queue: int,
    ) -> None:
        """`queue` in updates, here; the channel's server holds fewer (`SERVER_QUEUE_UPDATES`)."""
        self.name = channel
        self._fields = (value_field, timestamp_field, id_field)
        self._readers: tuple[Reader, Reader, Reader | None] | None = None
        fields = [field for field in self._fields if field is not None]
        # Only fields that change travel, and of all fields the server need not pick some: a fifth less for it and for
        # us. Frames are another matter: their image changes.
        wanted = () if provider == "pva" and value_field is not None else fields
        request = monitor_request(*wanted, queue=min(queue, SERVER_QUEUE_UPDATES))
        self._monitor = LiveMonitor(channel, request, queue_length=queue, provider=provider)

    @property
    def seen_anything(self) -> bool:
        """Whether an update has come: the channel exists and sends."""
        return self._readers is not None or len(self._monitor.queue) > 0

    @property
    def connected(self) -> bool:
        """Whether its server is there."""
        return self._monitor.connected

    @property
    def rejected(self) -> int:
        """Updates that found our queue full."""
        return int(self._monitor.queue.getCounters().get("nRejected", 0))

    def look(self, now: float) -> None:
        """See that the monitor lives; several times a second, `now` by a steady clock."""
        if self._monitor.dead(now):
            self._monitor.reopen()

    def take(self, at_most: int | None = None) -> list[Update]:
        """What has come since the last call, the oldest first; the rest stays for the next one."""
        pvs = list(islice(self._monitor.take(), at_most))
        if not pvs:
            return []
        if self._readers is None:
            self._readers = self._make_readers(pvs[0])
        value, time_ns, frame_id = self._readers
        if frame_id is None:
            return [(time_ns(pv), value(pv), None) for pv in pvs]
        return [(time_ns(pv), value(pv), frame_id(pv)) for pv in pvs]

    def _make_readers(self, pv: Any) -> tuple[Reader, Reader, Reader | None]:
        value, stamp, frame_id = self._fields
        if value is not None and not pv.hasField(value):
            raise DataError(f"metadata channel {self.name} has no field {value!r}")
        return (
            value_reader(pv, value) if value is not None else lambda pv: None,
            time_reader(pv, stamp or "timeStamp"),
            id_reader(pv, frame_id) if frame_id is not None else None,
        )


class PackedColumn(msgspec.Struct, frozen=True, array_like=True):
    """One channel in a batch. `kind`: "d" doubles, "q" 64-bit integers, "o" anything else, a list. `missing`: rows
    without a value."""

    kind: Literal["d", "q", "o"]
    data: bytes | list[Any]
    times: bytes
    missing: list[int]


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """Rows of consecutive frames. `keys`: 64-bit frame keys, ascending. `again`: sent before, for new ranks."""

    serial: int
    again: bool
    keys: bytes
    columns: list[PackedColumn]


def _array_out(value: object) -> Any:
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.str, "data": value.tobytes()}
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"metadata can't hold {type(value).__name__}")


_encoder = msgspec.msgpack.Encoder(enc_hook=_array_out)
_decoder = msgspec.msgpack.Decoder(Batch)


def pack_column(values: list[Any], times_ns: list[int | None]) -> PackedColumn:
    """Values and times of one channel, None where a row has none."""
    missing = [row for row, value in enumerate(values) if value is None]
    times = array("q", [NO_TIME if time is None else time for time in times_ns]).tobytes()
    kinds = {type(value) for value in values if value is not None}
    if kinds == {float}:
        return PackedColumn(
            "d", array("d", [0.0 if value is None else value for value in values]).tobytes(), times, missing
        )
    if kinds == {int}:
        try:
            packed = array("q", [0 if value is None else value for value in values]).tobytes()
            return PackedColumn("q", packed, times, missing)
        except OverflowError:
            pass
    return PackedColumn("o", values, times, missing)


def pack_batch(rows: Sequence[Row], *, serial: int, again: bool = False) -> bytes:
    """Rows as bytes."""
    columns = len(rows[0].values) if rows else 0
    batch = Batch(
        serial,
        again,
        array("Q", [row.key for row in rows]).tobytes(),
        [
            pack_column([row.values[i] for row in rows], [row.times_ns[i] for row in rows])
            for i in range(columns)
        ],
    )
    return _encoder.encode(batch)


class BatchRecord:
    """The channel of the batches, on `server`."""

    def __init__(self, server: Any, channel: str) -> None:
        import pvaccess

        types = dict.fromkeys(("serial", "rows", "firstId", "lastId"), pvaccess.ULONG)
        self._pv = pvaccess.PvObject({**types, "batch": [pvaccess.UBYTE]})
        self._server = server
        self._channel = channel
        self._serial = 0
        server.addRecord(channel, self._pv.copy())

    def publish(self, rows: Sequence[Row], *, again: bool = False) -> None:
        """Send rows; nothing where there are none."""
        if not rows:
            return
        self._serial += 1
        pv = self._pv
        pv["serial"] = self._serial
        pv["rows"] = len(rows)
        pv["firstId"], pv["lastId"] = rows[0].key, rows[-1].key
        pv["batch"] = np.frombuffer(pack_batch(rows, serial=self._serial, again=again), dtype=np.uint8)
        self._server.update(self._channel, pv)


class Column:
    """A column as a rank reads it."""

    __slots__ = ("_missing", "_objects", "_times", "_values")

    def __init__(self, packed: PackedColumn) -> None:
        self._missing = frozenset(packed.missing)
        data, kind = packed.data, packed.kind
        self._values: Any = memoryview(data).cast(kind) if isinstance(data, bytes) and kind != "o" else data
        self._objects = packed.kind == "o"
        self._times = memoryview(packed.times).cast("q")

    def value(self, row: int) -> Any:
        """The value of a row; None where it has none."""
        if row in self._missing:
            return None
        value = self._values[row]
        if self._objects and isinstance(value, dict):
            return np.frombuffer(value["data"], dtype=np.dtype(value["dtype"]))
        return value

    def time_ns(self, row: int) -> int | None:
        """The time of the value; None where it has none."""
        time_ns: int = self._times[row]
        return None if time_ns == NO_TIME else time_ns


class Rows:
    """A batch as a rank reads it: cheap to make, one row unpacked at a time."""

    __slots__ = ("again", "columns", "first", "keys", "last", "serial")

    def __init__(self, data: bytes) -> None:
        """ValueError when `data` is no batch."""
        batch = _decoder.decode(data)
        self.serial, self.again = batch.serial, batch.again
        self.keys = memoryview(batch.keys).cast("Q")
        if not len(self.keys):
            raise ValueError("a batch without rows")
        self.first, self.last = self.keys[0], self.keys[-1]
        self.columns = [Column(packed) for packed in batch.columns]

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, key: int) -> int | None:
        """The number of a frame's row."""
        guess = key - self.first
        keys = self.keys
        if 0 <= guess < len(keys) and keys[guess] == key:
            return guess
        found = int(np.searchsorted(np.frombuffer(keys, dtype=np.uint64), np.uint64(key)))
        return found if found < len(keys) and keys[found] == key else None


def read_batch(pv: Any) -> Rows:
    """The rows in an update of a batch channel; ValueError when it holds none."""
    return Rows(np.asarray(pv["batch"], dtype=np.uint8).tobytes())
