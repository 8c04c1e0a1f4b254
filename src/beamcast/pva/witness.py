"""A witness: a monitor of the id field alone, which says what a channel has sent without touching the payload.

The server copies a number and a time for each update, so a witness keeps up where a monitor of the whole frame would
not, and costs the sender little. Loss is told by comparing ids, never by counters.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

from beamcast.core.errors import DataError
from beamcast.core.ids import Epoch, EpochTracker, FixedEpoch
from beamcast.pva.fields import FirstValues, id_reader, is_blank, monitor_request, stamp_of
from beamcast.pva.metadata import SERVER_QUEUE_UPDATES
from beamcast.pva.monitor import LiveMonitor

logger = logging.getLogger(__name__)

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
        `count_epochs`. What a detector shows before its first frame is none (`FirstValues`)."""
        import pvaccess

        self._lock = threading.Lock()
        self._unfit: type[Exception] = pvaccess.PvaException
        self._name = channel
        self._id_fields = id_fields
        self._read_id: Callable[[Any], Any] | None = None
        self._keys = keys or EpochTracker(Epoch(0), counting=False)
        # pvaccess leaves out what a channel does not have; a server of pvxs then sends all that it has.
        fields = (id_fields[0], "timeStamp") if len(id_fields) == 1 else ()
        request = monitor_request(*fields, queue=SERVER_QUEUE_UPDATES)
        self._monitor = LiveMonitor(channel, request, queue_length=QUEUE_LENGTH, provider=provider)
        self._last: int | None = None
        self._first_values = FirstValues()
        self._last_pv: Any = None
        self._interrupted = False
        self._lost = 0
        self._unsure: list[int] = []
        self._began = False
        self.last_key: int | None = None
        self.repeated = 0
        """Updates since `count_epochs` that are no frames, since their id is that of the frame before."""
        self.repeated_id = 0

    @property
    def seen_anything(self) -> bool:
        """Whether any update has come: the channel exists and sends."""
        return self._began or len(self._monitor.queue) > 0

    def count_epochs(self) -> None:
        """The run begins: from now on an id that goes back begins an epoch. On the thread of `take`."""
        self.repeated = 0
        if isinstance(self._keys, EpochTracker):
            self._keys.counting = True

    def take(self) -> list[int]:
        """Keys of the frames since the last call; DataError when the channel has none of the id fields."""
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
            last = self._last
            if (last is None or number <= last) and self._is_no_frame(number, pv):
                continue
            if last is not None and number < last:
                logger.info("the ids of %s went back from %d to %d", self._name, last, number)
            self._last, self._last_pv = number, pv
            keys.append(observe(number))
        if pvs:
            self._began = True
        if keys:
            self._doubt(keys)
            self.last_key = keys[-1]
            self._first_values.note(self._last_pv)
        return keys

    def take_unsure(self) -> list[int]:
        """Of the keys that `take` has given since the last call, those before which this one may have missed some."""
        unsure, self._unsure = self._unsure, []
        return unsure

    def _doubt(self, keys: list[int]) -> None:
        with self._lock:
            interrupted, self._interrupted = self._interrupted, False
            lost, self._lost = self._lost, self._monitor.lost()
        if interrupted:
            self._unsure.append(keys[0])
        if self._lost > lost:
            self._unsure += keys

    def _is_no_frame(self, number: int, pv: Any) -> bool:
        """Whether an id that does not go on is no frame's. The same id with the same time is the last frame once more,
        as after a reconnect."""
        same = number == self._last
        if not same and not self._first_values.holds(pv, number, self._last):
            return False
        if is_blank(pv) or (same and stamp_of(pv) != stamp_of(self._last_pv)):
            self.repeated += self._began
            self.repeated_id = number
        return True

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
            self._interrupted = self._interrupted or (self._began and not self._monitor.connected)
            if self._monitor.dead(now):
                self._reopen()

    def reopen(self) -> None:
        """The channel's record was made anew. From any thread."""
        with self._lock:
            self._reopen()

    def _reopen(self) -> None:
        self._interrupted = True
        self._monitor.reopen()

    def close(self) -> None:
        """Stop the monitor."""
        self._monitor.close()
