"""A witness: a monitor of the id field alone, which says what a channel has sent without touching the payload.

The server copies one integer for each update, so a witness keeps up where a monitor of the whole frame would not,
and costs the sender little. Loss is told by comparing ids, never by counters.
"""

from collections.abc import Callable
from typing import Any

from beamcast.core.errors import DataError
from beamcast.core.ids import Epoch, EpochTracker, FixedEpoch
from beamcast.pva.fields import id_reader
from beamcast.pva.metadata import SERVER_QUEUE_UPDATES

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
        `count_epochs`."""
        import pvaccess

        self._unfit: type[Exception] = pvaccess.PvaException
        self._name = channel
        self._id_fields = id_fields
        self._read_id: Callable[[Any], Any] | None = None
        self._keys = keys or EpochTracker(Epoch(0), counting=False)
        self._queue = pvaccess.PvObjectQueue(QUEUE_LENGTH)
        self._channel = pvaccess.Channel(channel, pvaccess.CA if provider == "ca" else pvaccess.PVA)
        fields = id_fields[0] if len(id_fields) == 1 else ""
        self._request = f"record[queueSize={SERVER_QUEUE_UPDATES}]field({fields})"
        self._channel.qMonitor(self._queue, self._request)
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
        get, observe = self._queue.get, self._keys.observe
        for _ in range(len(self._queue)):
            pv = get(0)
            if self._read_id is None:
                self._read_id = self._reader(pv)
            try:
                number = self._read_id(pv)
            except self._unfit:  # the source came back with another structure
                self._read_id = self._reader(pv)
                number = self._read_id(pv)
            keys.append(observe(number))
        if keys:
            self.last_key = keys[-1]
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

    def close(self) -> None:
        """Stop the monitor."""
        self._channel.stopMonitor()
