"""A rank's side of the metadata: it takes the batches of the run's one metadata channel, and hands each frame its row.

The joining is done elsewhere, once (`beamcast.members.metadata`). A rank keeps whole batches, packed as they came: a
batch costs it the same however many of the rows are for other ranks, and a frame that is sent again finds its row
again. Rows come in the order of frames, so a row that is missing while a later one is here does not come any more.
"""

import logging
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from beamcast.config.workflow import Metadata
from beamcast.core.errors import WorldError
from beamcast.core.ids import ID_BITS, FrameKey
from beamcast.pools.frame import NO_METADATA, Frame
from beamcast.pools.work import Work
from beamcast.pva.metadata import Rows, read_batch
from beamcast.pva.ndarray import ImageReader

logger = logging.getLogger(__name__)

# Batches wait in the metadata member's server and here: some seconds of them.
QUEUE_BATCHES = 1000
# What a row may take beyond the `wait` of its rule: batching, the way here, a busy machine.
PATIENCE_S = 1.0
# As long as batches come, the row is only late: on a machine that has too much to do, frames that go on without their
# metadata are of less use than frames that wait (and, at the end of their queue, are lost and named).
LATEST_S = 10.0
NAP_S = 0.0005
# PvaPy's queues hold that many updates; a processor that does not take them must not fill memory.
PVAPY_QUEUE = 1000


class RowStore:
    """Batches in the order of their frames, bounded in rows."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._batches: deque[Rows] = deque()
        self._lasts: list[int] = []
        self._rows = 0

    def add(self, rows: Rows) -> None:
        """Keep a batch. One that was sent before and begins with frames that we know is left out."""
        if not self._lasts or rows.first > self._lasts[-1]:
            self._batches.append(rows)
            self._lasts.append(rows.last)
        elif rows.again and rows.first < self._batches[0].first:
            self._batches.insert(0, rows)
            self._lasts.insert(0, min(rows.last, self._batches[1].first - 1))
        else:
            return
        self._rows += len(rows)
        while self._rows > self._capacity and len(self._batches) > 1:
            self._rows -= len(self._batches.popleft())
            del self._lasts[0]

    def find(self, key: FrameKey) -> tuple[Rows, int] | None:
        """The batch of a frame and its row in there."""
        at = bisect_left(self._lasts, key)
        if at == len(self._lasts):
            return None
        row = self._batches[at].find(key)
        return None if row is None else (self._batches[at], row)

    def reaches_epoch_of(self, key: FrameKey) -> bool:
        """Whether the rows have come to the epoch of this frame."""
        return bool(self._lasts) and self._lasts[-1] >> ID_BITS >= key >> ID_BITS

    def passed(self, key: FrameKey) -> bool:
        """Whether rows before and after this frame are here, so that its own does not come any more."""
        return bool(self._lasts) and self._batches[0].first <= key <= self._lasts[-1]


class MetadataFeed:
    """The monitor of the metadata channel, and the rows that came. Used by the frame loop's thread."""

    def __init__(
        self, channel: str, *, capacity: int, patience_s: float, should_stop: Callable[[], bool]
    ) -> None:
        """`capacity`: rows to keep. `patience_s`: how long a frame may wait for its row while none come at all."""
        import pvaccess

        self.waited_s = 0.0
        self._name = channel
        self._store = RowStore(capacity)
        self._patience_s = patience_s
        self._should_stop = should_stop
        self._empty: type[Exception] = pvaccess.QueueEmpty
        self._queue = pvaccess.PvObjectQueue(QUEUE_BATCHES)
        self._channel = pvaccess.Channel(channel)
        self._gave_up = False

    def connect(self, *, timeout_s: float, without_after_s: float | None = None) -> bool:
        """Wait for the first update, which is none of ours; after `without_after_s` frames go on without. False when
        told to stop; WorldError when time is up."""
        self._channel.qMonitor(self._queue, f"record[queueSize={QUEUE_BATCHES}]field()")
        began = time.monotonic()
        while not len(self._queue):
            if self._should_stop():
                return False
            waited_s = time.monotonic() - began
            if without_after_s is not None and waited_s > without_after_s:
                logger.warning("no metadata come from %s yet: frames go on without", self._name)
                return True
            if waited_s > timeout_s:
                raise WorldError(
                    f"no update came from the metadata channel {self._name} within {timeout_s:g} s"
                )
            time.sleep(0.005)
        return True

    @property
    def stopping(self) -> bool:
        """Whether the rank was told to stop, so that no frame waits any more."""
        return self._should_stop()

    def row(self, key: FrameKey) -> tuple[Rows, int] | None:
        """The row of a frame; waits for it, but not if it can't come any more."""
        found = self._store.find(key)
        if found is None:
            self._take()
            found = self._store.find(key)
            if found is None and not self._store.passed(key):
                found = self._wait(key)
        return found

    def _wait(self, key: FrameKey) -> tuple[Rows, int] | None:
        """Where the last frame waited in vain and nothing has come since, the next ones do not wait as well."""
        began = came = time.monotonic()
        found = None
        while found is None and not self._store.passed(key) and not self._should_stop():
            now = time.monotonic()
            if self._gave_up or now - came > self._patience_s or now - began > LATEST_S:
                if not self._gave_up:
                    logger.warning("no metadata came within %.1f s; last asked for: %d", now - began, key)
                self._gave_up = True
                break
            try:
                self._keep(self._queue.get(0.05))
            except self._empty:
                continue
            self._take()
            if self._store.reaches_epoch_of(key):
                came = time.monotonic()
            found = self._store.find(key)
        self.waited_s += time.monotonic() - began
        return found

    def _take(self) -> None:
        for _ in range(len(self._queue)):
            self._keep(self._queue.get(0))

    def _keep(self, pv: Any) -> None:
        if not pv["rows"]:
            return  # what the record held before the first batch
        self._gave_up = False
        self._store.add(read_batch(pv))


class JoinedWork(Work):
    """The frame path of a rank with metadata: finds the row of each frame, then lets the work do the rest."""

    __slots__ = (
        "_drops",
        "_feed",
        "_inner",
        "_names",
        "_pv_of",
        "_queues",
        "_rules",
        "_stamps",
        "current",
        "unmatched",
    )

    def __init__(
        self,
        inner: Work,
        rules: Sequence[Metadata],
        feed: MetadataFeed,
        *,
        pv_of: Callable[[Any], Any] | None = None,
    ) -> None:
        """`pv_of` gives the object of what `do` is given, where that is another thing."""
        self._pv_of = pv_of
        super().__init__(inner.processor, inner.output, inner.tally)
        self._inner = inner
        self._feed = feed
        self._rules = tuple(rules)
        self._names = [rule.name for rule in rules]
        self._drops = [number for number, rule in enumerate(rules) if rule.unmatched == "drop"]
        self._stamps = [(number, Stamp(rule)) for number, rule in enumerate(rules) if rule.stamp]
        self._queues: dict[str, Any] = {}
        self.unmatched = 0
        hand_over = getattr(inner.processor, "take_metadata_queues", None)
        if hand_over is not None:
            self._queues = _pvapy_queues(rules)
            hand_over(self._queues)

    @property
    def waiting(self) -> int:
        """Frames of the batch that is being filled."""
        return self._inner.waiting

    def flush(self) -> None:
        """Process the frames that wait."""
        self._inner.flush()

    def do(self, pv: Any, key: FrameKey) -> None:
        """Process one update with its metadata; one without is passed on or dropped, as each channel's rule says."""
        before = self._feed.waited_s
        found = self._feed.row(key)
        if found is None and self._feed.stopping:
            return  # the run is over: as with the frames behind it in the queue, nobody asks for it any more
        # Waiting is not working: the loop will count the whole time.
        self.busy_s -= self._feed.waited_s - before
        values = [None] * len(self._names) if found is None else [c.value(found[1]) for c in found[0].columns]
        complete = all(value is not None for value in values)
        if not complete:
            self.unmatched += 1
            if any(values[number] is None for number in self._drops):
                self.tally.dropped.append(key)
                return
        if self._stamps:
            self._stamp(pv if self._pv_of is None else self._pv_of(pv), values)
        if self._queues and found is not None:
            self._feed_pvapy(found, values)
        metadata = dict(zip(self._names, values, strict=True))
        self._inner.do((pv, metadata if complete else _present(metadata)), key)

    def _stamp(self, pv: Any, values: Sequence[Any]) -> None:
        if pv.hasField("attribute"):
            made = [
                stamp.made(values[number]) for number, stamp in self._stamps if values[number] is not None
            ]
            pv["attribute"] = [*pv["attribute"], *made]

    def _feed_pvapy(self, found: tuple[Rows, int], values: Sequence[Any]) -> None:
        import pvaccess

        rows, row = found
        for number, (queue, value) in enumerate(zip(self._queues.values(), values, strict=True)):
            if value is None:
                continue
            if len(queue) >= PVAPY_QUEUE:
                queue.get(0)
            seconds, nanoseconds = divmod(rows.columns[number].time_ns(row) or 0, 1_000_000_000)
            stamp = {"secondsPastEpoch": seconds, "nanoseconds": nanoseconds, "userTag": 0}
            kind = _pv_type(pvaccess, value)
            update = pvaccess.PvObject({"value": kind, "timeStamp": pvaccess.PvTimeStamp()})
            update["value"] = value
            update["timeStamp"] = stamp
            queue.put(update)


def frame_with_metadata(pv: tuple[Any, Mapping[str, Any]], key: FrameKey, reader: ImageReader) -> Frame:
    """How the work under a `JoinedWork` makes its frames."""
    return Frame(pv[0], key, reader, pv[1])


class Stamp:
    """A value as an attribute of an NTNDArray. An array is written as text: readers expect one number or one text.

    A dictionary around a kept PvObject costs 3 µs, a new `NtAttribute` 27 µs (pvapy 5.6). Assigning it copies it.
    """

    __slots__ = ("_fields", "_holders")

    def __init__(self, rule: Metadata) -> None:
        import pvaccess

        self._fields: dict[str, Any] = {"name": rule.name, "source": rule.channel}
        self._holders = {
            float: pvaccess.PvDouble(),
            int: pvaccess.PvLong(),
            bool: pvaccess.PvBoolean(),
            str: pvaccess.PvString(),
        }

    def made(self, value: Any) -> dict[str, Any]:
        """The attribute, good until the next call."""
        holder = self._holders.get(type(value))
        if holder is None:
            holder, value = self._holders[str], str(value)
        holder.set(value)
        self._fields["value"] = holder
        return self._fields


def _pvapy_queues(rules: Sequence[Metadata]) -> dict[str, Any]:
    import pvaccess

    return {rule.channel: pvaccess.PvObjectQueue(PVAPY_QUEUE) for rule in rules}


def _pv_type(pvaccess: Any, value: Any) -> Any:
    names = {float: "DOUBLE", int: "LONG", bool: "BOOLEAN", str: "STRING"}
    if type(value) in names:
        return getattr(pvaccess, names[type(value)])
    return [pvaccess.DOUBLE]


def _present(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in metadata.items() if value is not None} or NO_METADATA
