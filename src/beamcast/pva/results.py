"""One PV of results, read so that none is lost unseen: what came, what is missing between, what was dropped.

The monitor asks for its queue in the form that pvaccess servers heed, the text ``record[queueSize=N]``: they ignore a
number, and keep two updates for a client that asks for nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pyroaring import BitMap64

from beamcast.core.ids import format_ranges
from beamcast.pva.fields import FirstValues, id_reader, is_blank
from beamcast.pva.monitor import LiveMonitor

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
        return float(stamp["secondsPastEpoch"] + stamp["nanoseconds"] * 1e-9)

    @property
    def fields(self) -> dict[str, Any]:
        """All fields; a union is the pair of its value and its type, as pvaccess gives it."""
        return dict(self.update.toDict())


class ResultStream:
    """The results of one PV. One thread.

    What a record shows before its first result has id 0 and no time, or no time where results have one: it is none.
    """

    def __init__(self, pv: str, id_fields: Sequence[str], queue: int) -> None:
        self.pv = pv
        self.first: Result | None = None
        self._id_fields = id_fields
        self._monitor = LiveMonitor(pv, f"record[queueSize={queue}]field()", queue_length=queue)
        self._read_id: Callable[[Any], Any] | None = None
        self._began: Any = None
        self._last: tuple[int | None, float | None] | None = None
        self._ids = BitMap64()
        self._first_values = FirstValues()

    def seen(self) -> bool:
        """Whether the present value has come."""
        if self._began is None and len(self._monitor.queue):
            self._began = self._monitor.queue.get(0)
            for name in self._id_fields:
                if self._began.hasField(name):
                    self._read_id = id_reader(self._began, name)
                    break
            first = self._result(self._began)
            if first.id != 0 or not is_blank(self._began):
                self.first = first
        return self._began is not None

    def take(self) -> Iterator[Result]:
        """What has come since the last call."""
        if self.first is not None and self._last is None:
            self._note(self.first)
            yield self.first
        for update in self._monitor.take():
            if self._first_values.untimed(update):
                continue
            self._first_values.note(update)
            result = self._result(update)
            if self._note(result):
                yield result

    def _result(self, update: Any) -> Result:
        number = None if self._read_id is None else self._read_id(update)
        return Result(self.pv, update, number)

    def _note(self, result: Result) -> bool:
        """Whether it is a new one: after a reconnect the present value comes once more."""
        mark = (result.id, result.time_s)
        if mark == self._last and result.id is not None:
            return False
        self._last = mark
        if isinstance(result.id, int) and result.id >= 0:
            if result.id in self._ids:
                self._ids.clear()  # the source has begun again
            self._ids.add(result.id)
        return True

    def missing(self) -> str:
        """Ids between others that did not come, as ranges."""
        if not self._ids:
            return ""
        between = BitMap64(range(self._ids.min(), self._ids.max() + 1)) - self._ids
        return format_ranges(between, max_ranges=SHOWN_RANGES)

    def look(self, now: float) -> None:
        """See that the monitor lives; a few times a second."""
        if self._monitor.dead(now):
            self._monitor.reopen()

    def overruns(self) -> int:
        """Updates that were dropped since a queue was full, as far as pvAccess counts them."""
        return self._monitor.dropped()

    def close(self) -> None:
        """Stop the monitor."""
        self._monitor.close()
