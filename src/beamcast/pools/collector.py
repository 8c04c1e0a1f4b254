"""The frame loop of a collector rank: gather the outputs of many ranks, put them in order of their ids, publish.

What waits for a missing id is bounded by the reorder window, in frames and in time; a frame that comes later than
that is handed out late, never thrown away. Where outputs are parts of frames, a frame enters the window when its last
part has come; what waits for a part is bounded in the same way, and then given up, since there is no whole frame.
"""

import logging
import time
from typing import Any

from pyroaring import BitMap64

from beamcast.core.gather import PartGatherer
from beamcast.core.ids import FrameKey
from beamcast.core.reorder import ReorderWindow
from beamcast.pools.consumer import BURST_FRAMES, NAP_S
from beamcast.pools.inputs import Inputs, MonitoredChannel
from beamcast.pools.opened import Admission
from beamcast.pools.steering import Steering
from beamcast.pools.work import Work

logger = logging.getLogger(__name__)

# While draining, producers that have been silent for this long have nothing more to say.
DRAIN_QUIET_S = 0.3


class CollectorLoop:
    """Runs on the rank's main thread until told to stop."""

    def __init__(
        self,
        inputs: Inputs,
        work: Work,
        steering: Steering,
        *,
        window: ReorderWindow[Any],
        gatherer: PartGatherer[Any] | None = None,
        repeats: bool = False,
        admit: Admission | None = None,
    ) -> None:
        """With `gatherer` the inputs bring parts of frames, and `work` is given tuples of them. With `repeats` a frame
        that comes once more is published once more: whoever reads this knows what it has. `admit` opens updates that
        come sealed."""
        self._admit = admit
        self._inputs = inputs
        self._work = work
        self._steering = steering
        self._window = window
        self._gatherer = gatherer
        self._repeats = repeats
        self._producers: set[int] = set()
        self.last_frame_at = time.monotonic()

    def run(self) -> None:
        """Gather, order and publish until `steering.stop`; what is still held back then is published first."""
        steering = self._steering
        while not steering.stop:
            steering.run_commands()
            if steering.inputs is not None:
                self._follow()
            if self._inputs.dead:
                self._inputs.revive()
            idle = self._sweep()
            self._publish(self._window.ready(time.monotonic()))
            quiet = steering.drain and self.quiet_for() > DRAIN_QUIET_S
            if quiet:
                self._publish(self._window.flush())
            if self._gatherer is not None:
                self._give_up(self._gatherer, everything=quiet)
            if idle:
                self._work.flush()
                self._inputs.try_again()
                time.sleep(NAP_S)
        self._publish(self._window.flush())
        self._work.flush()

    def released_before(self, keys: BitMap64) -> None:
        """Results that another collector, now dead, has published."""
        self._window.released_before(keys)
        if self._gatherer is not None:
            self._gatherer.complete_before(keys)

    def start_producers(self) -> None:
        """Tell the reorder window who delivers: not those who may be dead, from whom nothing has come so far."""
        channels = self._inputs.channels
        wanted = {channel.spec.producer for channel in channels}
        heard = {channel.spec.producer for channel in channels if channel.probe is not None}
        now = heard | (self._producers & wanted)
        for producer in now - self._producers:
            self._window.add_producer(producer)
        for producer in self._producers - now:
            self._window.retire_producer(producer)
        self._producers = now

    def _follow(self) -> None:
        wanted = self._steering.inputs
        self._steering.inputs = None
        if wanted is not None:
            for channel in self._inputs.follow(wanted):
                if channel.probe is not None:
                    self._take(channel, len(channel.queue))
            self.start_producers()

    def _sweep(self) -> bool:
        idle = True
        for channel in self._inputs.channels:
            if channel.probe is None:
                if len(channel.queue):
                    self._inputs.probed()
                    self.start_producers()
                continue
            waiting = min(len(channel.queue), BURST_FRAMES)
            if waiting:
                idle = False
                self._take(channel, waiting)
        return idle

    def _take(self, channel: MonitoredChannel, updates: int) -> None:
        self.last_frame_at = now = time.monotonic()
        get, push, pv = channel.queue.get, self._window.push, None
        for _ in range(updates):
            pv = get(0)
            self._one(channel, pv, push, now)
        if pv is not None and not channel.timed:
            channel.note(pv)

    def _give_up(self, gatherer: PartGatherer[Any], *, everything: bool) -> None:
        first = not gatherer.incomplete
        gone = gatherer.give_up_all() if everything else gatherer.give_up(time.monotonic())
        if gone and first:
            # Once: where a producer is dead, every frame lacks its part, and the run's ledger names them all.
            logger.warning("%d frames are given up: parts of them did not come", gone)

    def _one(self, channel: MonitoredChannel, pv: Any, push: Any, now: float) -> None:
        frame_id = channel.read_id(pv)
        if frame_id == channel.tracker.last:
            self._work.tally.duplicates += 1
            return
        if not frame_id and channel.is_first_value(frame_id, pv):
            return
        if self._admit is not None:
            began = time.perf_counter()
            pv = self._admit(pv, frame_id, channel.tracker)
            self._work.busy_s += time.perf_counter() - began
            if pv is None:
                return
        key = channel.observe(frame_id)
        channel.gathered.append(key)
        if self._gatherer is not None:
            self._part(self._gatherer, channel, key, pv, now)
            return
        if not push(channel.spec.producer, key, pv, now) and self._window.was_released(key):
            self._once_more(key, pv)

    def _once_more(self, key: FrameKey, pv: Any) -> None:
        """A frame was made again although its result was handed out: whoever asked for it did not get it, or has to
        hear once more that it is final."""
        if self._repeats:
            self._publish([(key, pv)])
        else:
            self._work.tally.again.append(key)

    def _part(
        self, gatherer: PartGatherer[Any], channel: MonitoredChannel, key: FrameKey, pv: Any, now: float
    ) -> None:
        parts = gatherer.push(key, channel.spec.part, pv, now)
        if parts is not None:
            self._window.push(channel.spec.producer, key, parts, now)
            return
        self._window.passed(channel.spec.producer, key, now)
        if self._window.was_released(key):
            self._work.tally.again.append(key)

    def _publish(self, ordered: list[tuple[int, Any]]) -> None:
        if not ordered:
            return
        do = self._work.do
        began = time.perf_counter()
        for key, pv in ordered:
            do(pv, FrameKey(key))
        self._work.busy_s += time.perf_counter() - began

    @property
    def queued(self) -> int:
        """Frames that wait for their turn, for an id before them or for a part of them."""
        gathering = self._gatherer.held if self._gatherer is not None else 0
        return self._inputs.queued + gathering + self._window.held + self._work.waiting

    def quiet_for(self) -> float:
        """Seconds since the last frame came in, 0 while any waits in a receiver queue."""
        return 0.0 if self._inputs.queued else time.monotonic() - self.last_frame_at
