"""The frame loop of a consumer rank: take an update, note its id, process it, publish the output."""

import time
from collections.abc import Callable
from typing import Any

from beamcast.pools.inputs import Inputs, MonitoredChannel
from beamcast.pools.opened import Admission
from beamcast.pools.steering import Steering
from beamcast.pools.work import Work
from beamcast.pva.messages import Input

# Between two looks at the steering, in frames and in time: short enough to stop at once however slow the processor
# is, long enough not to be seen in the profile.
BURST_FRAMES = 64
BURST_S = 0.05
WAIT_S = 0.05
# With several inputs there is no single queue to wait on; a nap this long adds at most as much latency.
NAP_S = 0.0005


class ConsumerLoop:
    """Runs on the rank's main thread until told to stop."""

    def __init__(
        self,
        inputs: Inputs,
        work: Work,
        steering: Steering,
        *,
        after_burst: Callable[[], None] | None = None,
        admit: Admission | None = None,
    ) -> None:
        """`after_burst` is called when some frames have been processed, before waiting for others. `admit` opens
        updates that come sealed."""
        self._admit = admit
        self._after_burst = after_burst
        self._inputs = inputs
        self._work = work
        self._steering = steering
        self._burst_frames = 1
        self._in_burst = False
        self.last_frame_at = time.monotonic()

    def run(self) -> None:
        """Process frames until `steering.stop`."""
        import pvaccess

        empty: type[Exception] = pvaccess.QueueEmpty
        steering, inputs = self._steering, self._inputs
        while not steering.stop:
            steering.run_commands()
            if steering.inputs is not None:
                self._follow(steering.inputs)
                steering.inputs = None
            if steering.reopen:
                inputs.reopen()
                steering.reopen = False
            if inputs.dead:
                inputs.revive()
            channels = inputs.channels
            if len(channels) == 1 and channels[0].probe is not None:
                self._wait_and_burst(channels[0], empty)
            else:
                self._sweep(channels)
        self._work.flush()

    def _follow(self, wanted: tuple[Input, ...]) -> None:
        """Read from now on what is wanted; frames that have come from a channel that is left are processed first."""
        for channel in self._inputs.follow(wanted):
            while channel.probe is not None and len(channel.queue):
                self._burst(channel, channel.queue.get(0))
        self._inputs.probed()

    def _wait_and_burst(self, channel: MonitoredChannel, empty: type[Exception]) -> None:
        """Wait for a frame of the only channel, then take what has come with it."""
        try:
            first = channel.queue.get(WAIT_S)
        except empty:
            self._work.flush()
            return
        self._burst(channel, first)

    def _sweep(self, channels: list[MonitoredChannel]) -> None:
        """What waits in each of several channels, at most one burst of each."""
        idle = True
        for channel in channels:
            if not len(channel.queue):
                continue
            idle = False
            if channel.probe is None:
                self._inputs.probed()
            else:
                self._burst(channel, channel.queue.get(0))
        if idle:
            self._work.flush()
            self._inputs.try_again()
            time.sleep(NAP_S)

    def _burst(self, channel: MonitoredChannel, pv: Any) -> None:
        """Process `pv` and some more that wait. The frame path: what can be looked up once is."""
        self._in_burst = True
        began = time.perf_counter()
        get, read_id, tracker, observe = channel.queue.get, channel.read_id, channel.tracker, channel.observe
        work = self._work
        do, admit = work.do, self._admit
        count = waiting = min(len(channel.queue), self._burst_frames - 1)
        while True:
            frame_id = read_id(pv)
            if frame_id == tracker.last:
                work.tally.duplicates += 1
            elif not frame_id and channel.is_first_value(frame_id, pv):
                pass
            elif admit is None:
                do(pv, observe(frame_id))
            else:
                opened = admit(pv, frame_id, tracker)
                if opened is not None:
                    do(opened, observe(frame_id))
            if not waiting:
                break
            waiting -= 1
            pv = get(0)
        if not channel.timed:
            channel.note(pv)
        self._burst_is_over(count + 1, time.perf_counter() - began)

    def _burst_is_over(self, frames: int, seconds: float) -> None:
        self._work.busy_s += seconds
        self._burst_frames = max(1, min(BURST_FRAMES, int(frames * BURST_S / max(seconds, 1e-9))))
        self.last_frame_at = time.monotonic()
        self._in_burst = False
        if self._after_burst is not None:
            self._after_burst()

    @property
    def queued(self) -> int:
        """Frames taken from the network and not yet processed."""
        return self._inputs.queued + self._work.waiting

    def quiet_for(self) -> float:
        """Seconds since the last frame, 0 while frames wait or are in work."""
        return 0.0 if self._in_burst or self.queued else time.monotonic() - self.last_frame_at
