"""A witness: a monitor of the id field alone, which says what a channel has sent without touching the payload.

The server copies a number and a time for each update, so a witness keeps up where a monitor of the whole frame would
not, and costs the sender little. Loss is told by comparing ids, never by counters.
"""

import threading
from collections.abc import Callable
from typing import Any

from beamcast.core.errors import DataError
from beamcast.core.ids import Epoch, EpochTracker, FixedEpoch
from beamcast.pva.fields import FirstValues, id_reader
from beamcast.pva.metadata import SERVER_QUEUE_UPDATES
from beamcast.pva.monitor import LiveMonitor

# Half a second of ids at 26 kHz may wait here between two heartbeats; for the server see `SERVER_QUEUE_UPDATES`.
QUEUE_LENGTH = 20000


class Witness:
    """Collects the ids of one channel. `take` is called by one thread, a few times a second."""

    def __init__(
        self,
        channel: str,
        *,
        id_fields: tuple[str, ...],
        provider: str = "pva",
        keys: EpochTracker | FixedEpoch | None = None,
    ) -> None:
        """`keys` makes frame keys of ids; by default an id lower than the last one begins a new epoch, after
        `count_epochs`. What a restarted detector shows before its first frame, an id that goes back and no time, is
        no frame."""
        import pvaccess

        self._lock = threading.Lock()
        self._unfit: type[Exception] = pvaccess.PvaException
        self._name = channel
        self._id_fields = id_fields
        self._read_id: Callable[[Any], Any] | None = None
        self._keys = keys or EpochTracker(Epoch(0), counting=False)
        # pvaccess leaves out what a channel does not have; a server of pvxs then sends all that it has.
        fields = f"{id_fields[0]},timeStamp" if len(id_fields) == 1 else ""
        request = f"record[queueSize={SERVER_QUEUE_UPDATES}]field({fields})"
        self._monitor = LiveMonitor(channel, request, queue_length=QUEUE_LENGTH, provider=provider)
        self._last: int | None = None
        self._first_values = FirstValues()
        self.last_key: int | None = None

    @property
    def seen_anything(self) -> bool:
        """Whether any update has come: the channel exists and sends."""
        return self.last_key is not None

    def count_epochs(self) -> None:
        """The run begins: from now on an id that goes back begins an epoch. On the thread of `take`."""
        if isinstance(self._keys, EpochTracker):
            self._keys.counting = True

    def take(self) -> list[int]:
        """Keys of the updates since the last call; DataError when the channel has none of the id fields."""
        keys: list[int] = []
        observe = self._keys.observe
        with self._lock:
            pvs = list(self._monitor.take())
        for pv in pvs:
            if self._read_id is None:
                self._read_id = self._reader(pv)
            try:
                number = self._read_id(pv)
            except self._unfit:  # the source came back with another structure
                self._read_id = self._reader(pv)
                number = self._read_id(pv)
            if self._last is not None and number < self._last and self._first_values.holds(pv):
                continue
            self._last = number
            keys.append(observe(number))
        if keys:
            self.last_key = keys[-1]
            self._first_values.note(pv)
        return keys

    def _reader(self, pv: Any) -> Callable[[Any], Any]:
        for name in self._id_fields:
            if pv.hasField(name):
                return id_reader(pv, name)
        raise DataError(
            f"channel {self._name} has no id field {self._id_fields[0]!r}; its fields are: "
            f"{', '.join(sorted(pv.keys()))}",
            hint="set id_field under [source] to the field that numbers the frames",
        )

    def look(self, now: float) -> None:
        """See that the monitor lives; several times a second, `now` by a steady clock. From any thread."""
        with self._lock:
            if self._monitor.dead(now):
                self._monitor.reopen()

    def reopen(self) -> None:
        """The channel's record was made anew. From any thread."""
        with self._lock:
            self._monitor.reopen()

    def close(self) -> None:
        """Stop the monitor."""
        self._monitor.close()
