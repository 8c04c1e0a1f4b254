"""One PV of results, read so that none is lost unseen: what came, what is missing between, what was dropped.

The monitor asks for its queue in the form that pvaccess servers heed, the text ``record[queueSize=N]``: they ignore a
number, and keep two updates for a client that asks for nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from pyroaring import BitMap64

from beamcast.pva.fields import FirstValues, id_reader, is_blank

SHOWN_RANGES = 20


@dataclass(frozen=True, slots=True)
class Result:
    """One result. `pv` is its PV's name, `update` the pvaccess object, `id` the frame's id where there is one."""

    pv: str
    update: Any
    id: int | None

    def __getitem__(self, name: str) -> Any:
        """A field, such as ``result["total"]`` or ``result["timeStamp.nanoseconds"]``; KeyError where there is none."""
        if not self.update.hasField(name):
            raise KeyError(name)
        return self.update[name]

    @property
    def image(self) -> Any:
        """The image of an NTNDArray as a read-only NumPy array; DataError where there is none."""
        from beamcast.pva.ndarray import image_view

        return image_view(self.update)

    @property
    def time_s(self) -> float | None:
        """Seconds since 1970; None where the result has no time."""
        if not self.update.hasField("timeStamp") or is_blank(self.update):
            return None
        stamp = self.update["timeStamp"]
        if not (isinstance(stamp, dict) and stamp.keys() >= {"secondsPastEpoch", "nanoseconds"}):
            return None
        return float(stamp["secondsPastEpoch"] + stamp["nanoseconds"] * 1e-9)

    @property
    def fields(self) -> dict[str, Any]:
        """All fields; a union is the pair of its value and its type, as pvaccess gives it."""
        return dict(self.update.toDict())


class Monitor(Protocol):
    """What `beamcast.pva.monitor.LiveMonitor` is to us."""

    @property
    def connected(self) -> bool: ...
    def take(self) -> Iterator[Any]: ...
    def dead(self, now: float) -> bool: ...
    def reopen(self) -> None: ...
    def dropped(self) -> int: ...
    def close(self) -> None: ...


def request(queue: int) -> str:
    """What a monitor asks for that does not lose."""
    return f"record[queueSize={queue}]field()"


class ResultStream:
    """The results of one PV. One thread.

    What a record shows before its first result has id 0 and no time, or no time where results have one: it is none.
    """

    def __init__(self, pv: str, id_fields: Sequence[str], monitor: Monitor) -> None:
        self.pv = pv
        self.first: Result | None = None
        self._id_fields = id_fields
        self._monitor = monitor
        self._read_id: Callable[[Any], Any] | None = None
        self._began = False
        self._waiting: list[Any] = []
        self._last: tuple[int | None, float | None] | None = None
        self._ids = BitMap64()
        self._first_values = FirstValues()
        self._away = False

    def seen(self) -> bool:
        """Whether the present value has come."""
        if not self._began:
            self._waiting += self._monitor.take()
            if self._waiting:
                self._began = True
                self._choose_id(self._waiting[0])
                first = self._result(self._waiting.pop(0))
                if first.id != 0 or not is_blank(first.update):
                    self.first = first
        return self._began

    def take(self) -> Iterator[Result]:
        """What has come since the last call."""
        if self.first is not None and self._last is None:
            self._note(self.first)
            yield self.first
        waiting, self._waiting = self._waiting, []
        for update in (*waiting, *self._monitor.take()):
            if self._first_values.untimed(update):
                continue
            self._first_values.note(update)
            result = self._result(update)
            if self._note(result):
                yield result

    def _choose_id(self, update: Any) -> None:
        name = next((name for name in self._id_fields if update.hasField(name)), None)
        self._read_id = None if name is None else id_reader(update, name)

    def _result(self, update: Any) -> Result:
        number = None
        if self._read_id is not None:
            try:
                number = self._read_id(update)
            except Exception:  # noqa: BLE001 - pvaccess's own; the PV came back with another structure
                self._choose_id(update)
                number = None if self._read_id is None else self._read_id(update)
        return Result(self.pv, update, number)

    def _note(self, result: Result) -> bool:
        """Whether it is a new one: after a reconnect the present value comes once more. Only its time tells."""
        mark = (result.id, result.time_s)
        if mark == self._last and None not in mark:
            return False
        self._last = mark
        if isinstance(result.id, int) and result.id >= 0:
            if result.id in self._ids:
                self._ids.clear()  # the source has begun again
            self._ids.add(result.id)
        return True

    def missing(self) -> str:
        """Ids between others that did not come, as ranges."""
        gaps = [(before + 1, after - 1) for before, after in pairwise(self._ids) if after > before + 1]
        parts = [str(first) if first == last else f"{first}-{last}" for first, last in gaps[:SHOWN_RANGES]]
        if len(gaps) > SHOWN_RANGES:
            parts.append(f"… (+{len(gaps) - SHOWN_RANGES} ranges)")
        return ",".join(parts)

    def look(self, now: float) -> bool | None:
        """See that the monitor lives; a few times a second. True when the PV has come back since the last look, False
        when it has gone, None when nothing has changed."""
        if self._monitor.dead(now):
            self._monitor.reopen()
        was, self._away = self._away, not self._monitor.connected
        return None if was == self._away else was

    def overruns(self) -> int:
        """Updates that were dropped since a queue was full, as far as pvAccess counts them."""
        return self._monitor.dropped()

    def close(self) -> None:
        """Stop the monitor."""
        self._monitor.close()
