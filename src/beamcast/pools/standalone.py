"""A rank without a run: the same frame loops, told what to do by options instead of a controller.

Where a rank of a run hands its tally to the controller, this one keeps it, as bitmaps: a few bytes for a million
frames in sequence, so it may run for weeks.
"""

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from pyroaring import BitMap64

from beamcast.core.ids import ID_BITS, ID_MASK, format_ranges
from beamcast.core.keyset import count_gaps, decode_keys
from beamcast.core.place import Place
from beamcast.core.reorder import ReorderWindow
from beamcast.pools.collector import CollectorLoop
from beamcast.pools.consumer import ConsumerLoop
from beamcast.pools.counting import count
from beamcast.pools.inputs import Inputs, look_at, payload_bytes
from beamcast.pools.opened import Admission, PoolOpener
from beamcast.pools.output_seal import PoolSealer
from beamcast.pools.processor import Context, Station, load_processor, open_output
from beamcast.pools.rank_pvs import RankPvs
from beamcast.pools.steering import Steering
from beamcast.pools.tally import Tally
from beamcast.pools.work import Work, make_work
from beamcast.pva.messages import Counters, FailedFrame, Input, RankDuty

# How often ids are put away and the status PV is updated.
PERIOD_S = 0.1
STATUS_PERIOD_S = 1.0
# A report stays readable.
MAX_RANGES = 1000
MAX_KEPT_FAILED_FRAMES = 100


class StandaloneReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a rank did, as written by --report-json. Numbers of frames unless the name says otherwise."""

    processed: int
    dropped: int
    failed: int
    received: int
    published: int
    duplicates: int
    late: int
    queued: int
    server_overruns: int
    receiver_rejected: int
    missing: int
    busy_s: float
    runtime_s: float
    processed_ids: str
    dropped_ids: str
    failed_ids: str
    missing_ids: str
    tracebacks: tuple[str, ...]


@dataclass(slots=True)
class KeptTally:
    """What became of which frame, since the start."""

    processed: BitMap64 = field(default_factory=BitMap64)
    dropped: BitMap64 = field(default_factory=BitMap64)
    failed: BitMap64 = field(default_factory=BitMap64)
    failed_frames: list[FailedFrame] = field(default_factory=list)

    def take(self, tally: Tally) -> None:
        """Put away what the tally holds and empty it."""
        delta, frames = tally.take()
        for kept, data in (
            (self.processed, delta.processed),
            (self.dropped, delta.dropped),
            (self.failed, delta.failed),
        ):
            if data:
                kept |= decode_keys(data)
        self.failed_frames += frames[: MAX_KEPT_FAILED_FRAMES - len(self.failed_frames)]

    @property
    def done(self) -> int:
        """Frames that the processor has been called with."""
        return len(self.processed) + len(self.dropped) + len(self.failed)

    def missing(self) -> tuple[int, str]:
        """Number and ranges of the ids between the first and the last that never came. Where a rank gets its share
        of a stream, those are the frames of the others."""
        came = self.processed | self.dropped | self.failed
        gaps = list(itertools.islice(_gaps(came), MAX_RANGES + 1))
        shown = ",".join(_range(first, last) for first, last in gaps[:MAX_RANGES])
        more = ",…" if len(gaps) > MAX_RANGES else ""
        return count_gaps(came), shown + more


def _gaps(came: BitMap64) -> Iterator[tuple[int, int]]:
    """First and last key of each gap. A bitmap of the gaps would be huge where ids jump (ids made from clocks)."""
    # Neighbours: the end of each run of ids with the start of the next one.
    ends, starts = iter(came - came.shift(-1)), iter(came - came.shift(1))
    next(starts, None)
    for end, start in zip(ends, starts, strict=False):
        # Between the last id of an epoch and the first of the next lie 2^48 that mean nothing.
        if end >> ID_BITS == start >> ID_BITS:
            yield end + 1, start - 1


def _range(first: int, last: int) -> str:
    text = format_ranges([first])
    return text if first == last else f"{text}-{last & ID_MASK}"


class StandaloneRank:
    """One consumer or collector with its output, status and control PVs, all on `server`."""

    def __init__(self, duty: RankDuty, inputs: tuple[Input, ...], server: Any) -> None:
        pool = duty.pool
        self._duty = duty
        self._wanted = inputs
        self.steering = Steering()
        self._tally = Tally()
        self._kept = KeptTally()
        fields = (duty.source.id_field, "uniqueId")
        self._inputs = Inputs(
            queue_length=pool.receiver_queue, id_fields=tuple(dict.fromkeys(fields)), epoch=duty.epoch
        )
        station = Station(
            rank=duty.rank,
            input_channel=inputs[0].channel,
            output_channel=duty.output_channel,
            id_fields=tuple(dict.fromkeys(fields)),
            server=server,
        )
        base = Path(duty.base)
        self._processor = load_processor(pool.processor, pool.params, base=base, station=station)
        self._opener = PoolOpener(base / pool.open) if pool.open is not None else None
        self._sealer = self._make_sealer(base / pool.seal, station) if pool.seal is not None else None
        self._output = open_output(self._processor, station, seal=self._sealer)
        self._work: Work = make_work(self._processor, self._output, self._tally)
        admit = Admission(self._opener, self._work) if self._opener is not None else None
        self._window: ReorderWindow[Any] = ReorderWindow(
            capacity=pool.reorder_window, max_wait_s=float(pool.reorder_timeout)
        )
        self._loop: ConsumerLoop | CollectorLoop
        if pool.role == "consumer":
            self._loop = ConsumerLoop(self._inputs, self._work, self.steering, admit=admit)
        else:
            self._loop = CollectorLoop(
                self._inputs, self._work, self.steering, window=self._window, admit=admit
            )
        self._pvs = RankPvs(
            server,
            duty,
            self.steering,
            self._processor,
            counters=self._counters,
            leave=self._inputs.leave,
            queued=lambda: self._loop.queued,
        )
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def _make_sealer(self, keys: Path, station: Station) -> PoolSealer:
        # Who reads several of us tells them apart by where they are.
        sender = f"standalone/{socket.gethostname()}/{self._duty.output_channel}"
        return PoolSealer(keys, sender=sender, id_fields=station.id_fields)

    def run(self, *, frames: int | None, runtime_s: float | None, say: Callable[[str], None]) -> None:
        """Process until `steering.stop`, or at least `frames` frames are done, or `runtime_s` have passed.

        `say` gets a line when the inputs are connected. WorldError when one of them does not appear in the
        source's `appear_timeout`, DataError when it has no id field.
        """
        self._processor.start(self._context())
        timeout_s = float(self._duty.source.appear_timeout)
        try:
            self._size_queues(timeout_s)
            self._inputs.follow(self._wanted)
            if self._inputs.wait_for_probes(timeout_s=timeout_s, should_stop=lambda: self.steering.stop):
                self._stream(frames, runtime_s, say)
        finally:
            self._processor.stop()
            for helper in (self._opener, self._sealer):
                if helper is not None:
                    helper.close()

    def _size_queues(self, timeout_s: float) -> None:
        """Queues in bytes: as many frames as the first input has now fit into them."""
        pool = self._duty.pool
        if pool.receiver_queue_bytes is None and pool.server_queue_bytes is None:
            return
        channel = self._wanted[0].channel
        seen = look_at(channel, timeout_s=timeout_s, should_stop=lambda: self.steering.stop)
        self._inputs.size_queues(
            0 if seen is None else payload_bytes(seen),
            receiver_bytes=pool.receiver_queue_bytes,
            server_bytes=pool.server_queue_bytes,
        )

    def _context(self) -> Context:
        place = Place(
            rank=self._duty.rank,
            size=self._duty.rank + 1,
            node=socket.gethostname(),
            node_index=0,
            nodes=1,
            local_rank=0,
            local_size=1,
        )
        return Context(run="standalone", pool=self._duty.pool.name, place=place, base=Path(self._duty.base))

    def _stream(self, frames: int | None, runtime_s: float | None, say: Callable[[str], None]) -> None:
        if isinstance(self._loop, CollectorLoop):
            self._loop.start_producers()
        probe = self._inputs.channels[0].probe
        self._output.open(probe if self._opener is None else self._opener.look(probe))
        self._began = time.monotonic()
        say(f"connected to {', '.join(spec.channel for spec in self._wanted)}")
        ended = threading.Event()
        keeper = threading.Thread(
            target=self._keep, args=(ended, frames, runtime_s), name="keeper", daemon=True
        )
        keeper.start()
        try:
            self._loop.run()
        finally:
            ended.set()
            keeper.join()

    def _keep(self, ended: threading.Event, frames: int | None, runtime_s: float | None) -> None:
        """The keeper's thread: put ids away, update the status PV, end the loop when it is time."""
        next_status = self._began
        while not ended.wait(PERIOD_S):
            now = time.monotonic()
            with self._lock:
                self._kept.take(self._tally)
            self._inputs.look(now)
            for gathered in self._inputs.gathered.values():
                del gathered[:]  # which producer delivered what is a question of the controller's
            if frames is not None and self._kept.done >= frames:
                self.steering.stop = True
            if runtime_s is not None and now - self._began >= runtime_s:
                self.steering.stop = True
            if now >= next_status:
                next_status = now + STATUS_PERIOD_S
                self._pvs.update(self._counters())

    def _counters(self) -> Counters:
        return count(self._inputs, self._tally, self._work, self._output, self._loop, self._window)

    def report(self) -> StandaloneReport:
        """What has been done so far. From any thread."""
        counters = self._counters()
        with self._lock:
            self._kept.take(self._tally)
            kept = self._kept
            missing, missing_ids = kept.missing()
            return StandaloneReport(
                processed=len(kept.processed),
                dropped=len(kept.dropped),
                failed=len(kept.failed),
                received=counters.received,
                published=counters.published,
                duplicates=counters.duplicates,
                late=counters.late,
                queued=counters.queued,
                server_overruns=counters.server_overruns,
                receiver_rejected=counters.receiver_rejected,
                missing=missing,
                busy_s=round(counters.busy_s, 6),
                runtime_s=round(time.monotonic() - self._began, 6),
                processed_ids=format_ranges(kept.processed, max_ranges=MAX_RANGES),
                dropped_ids=format_ranges(kept.dropped, max_ranges=MAX_RANGES),
                failed_ids=format_ranges(kept.failed, max_ranges=MAX_RANGES),
                missing_ids=missing_ids,
                tracebacks=tuple(frame.traceback for frame in kept.failed_frames),
            )
