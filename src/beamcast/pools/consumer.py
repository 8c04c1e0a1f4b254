"""The frame loop of a consumer rank: take an update, note its id, process it, publish the output."""

import time
from typing import Any

from beamcast.pools.inputs import Inputs, MonitoredChannel
from beamcast.pools.steering import Steering
from beamcast.pools.work import Work

# Between two looks at the steering: short enough to stop at once, long enough not to be seen in the profile.
BURST_FRAMES = 64
WAIT_S = 0.05
# With several inputs there is no single queue to wait on; a nap this long adds at most as much latency.
NAP_S = 0.0005


class ConsumerLoop:
    """Runs on the rank's main thread until told to stop."""

    def __init__(self, inputs: Inputs, work: Work, steering: Steering) -> None:
        self._inputs = inputs
        self._work = work
        self._steering = steering
        self.last_frame_at = time.monotonic()

    def run(self) -> None:
        """Process frames until `steering.stop`."""
        import pvaccess

        empty: type[Exception] = pvaccess.QueueEmpty
        steering = self._steering
        while not steering.stop:
            steering.run_commands()
            if steering.inputs is not None:
                self._inputs.follow(steering.inputs)
                steering.inputs = None
                self._inputs.probed()
            channels = [channel for channel in self._inputs.channels if channel.probe is not None]
            if len(channels) == 1 and len(self._inputs.channels) == 1:
                self._burst(channels[0], empty)
            else:
                self._sweep(channels)

    def _burst(self, channel: MonitoredChannel, empty: type[Exception]) -> None:
        """Up to BURST_FRAMES frames of the only channel; waits for the first."""
        get = channel.queue.get
        timeout = WAIT_S
        try:
            for _ in range(BURST_FRAMES):
                self._one(channel, get(timeout))
                timeout = 0.0
        except empty:
            pass

    def _sweep(self, channels: list[MonitoredChannel]) -> None:
        """What waits in each of several channels, at most BURST_FRAMES of each."""
        idle = True
        for channel in channels:
            for _ in range(min(len(channel.queue), BURST_FRAMES)):
                self._one(channel, channel.queue.get(0))
                idle = False
        if idle:
            self._inputs.probed()
            time.sleep(NAP_S)

    def _one(self, channel: MonitoredChannel, pv: Any) -> None:
        frame_id = pv[channel.id_field]
        if frame_id == channel.tracker.last:
            self._work.tally.duplicates += 1
            return
        self._work.do(pv, channel.observe(frame_id))
        self.last_frame_at = time.monotonic()

    @property
    def queued(self) -> int:
        """Frames taken from the network and not yet processed."""
        return self._inputs.queued

    def quiet_for(self) -> float:
        """Seconds since the last frame, 0 while frames wait."""
        return 0.0 if self.queued else time.monotonic() - self.last_frame_at
