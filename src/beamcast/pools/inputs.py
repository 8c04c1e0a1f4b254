"""The input channels of a rank: monitors that fill C++ queues, and the ids that arrive in them.

The first update of a new monitor is the value that the server had when we connected. It proves that updates come
through (the probe) and may belong to another rank, so it is never processed. After a reconnect the server sends its
current value again; an id that repeats is counted as a duplicate.
"""

import time
from collections.abc import Callable
from typing import Any

from beamcast.core.errors import DataError, WorldError
from beamcast.core.ids import Epoch, EpochTracker
from beamcast.pva.messages import Input


class MonitoredChannel:
    """One monitor. `queue` holds updates in the order in which they came."""

    __slots__ = ("_channel", "id_field", "observe", "probe", "queue", "spec", "tracker")

    def __init__(self, spec: Input, *, queue_length: int, id_fields: tuple[str, ...], epoch: int) -> None:
        import pvaccess

        self.spec = spec
        self.tracker = EpochTracker(Epoch(epoch))
        self.observe = self.tracker.observe
        self.queue = pvaccess.PvObjectQueue(queue_length)
        self.id_field = id_fields[0]
        self.probe: Any = None
        self._channel = pvaccess.Channel(spec.channel)
        self._channel.qMonitor(self.queue, spec.request)

    def take_probe(self, id_fields: tuple[str, ...]) -> bool:
        """Whether the first update is there; DataError when it has none of the id fields."""
        if self.probe is not None:
            return True
        if not len(self.queue):
            return False
        probe = self.queue.get(0)
        for name in id_fields:
            if probe.hasField(name):
                self.id_field = name
                self.probe = probe
                return True
        has = ", ".join(sorted(probe.keys()))
        raise DataError(
            f"channel {self.spec.channel} has no id field {id_fields[0]!r}; its fields are: {has}",
            hint="set id_field under [source] to the field that numbers the frames",
        )

    @property
    def connected(self) -> bool:
        """Whether the channel is connected now."""
        return bool(self._channel.isConnected())

    def counters(self) -> tuple[int, int, int]:
        """(received, server overruns, rejected by the full receiver queue) as pvAccess counts them."""
        monitor = self._channel.getMonitorCounters()
        queue = self.queue.getCounters()
        return monitor.get("nReceived", 0), monitor.get("nOverruns", 0), queue.get("nRejected", 0)

    def close(self) -> None:
        """Stop the monitor."""
        self._channel.stopMonitor()


class Inputs:
    """All monitors of a rank; changed between frames by the frame loop's thread."""

    def __init__(self, *, queue_length: int, id_fields: tuple[str, ...], epoch: int) -> None:
        self._queue_length = queue_length
        self._id_fields = id_fields
        self._epoch = epoch
        self.channels: list[MonitoredChannel] = []

    def follow(self, wanted: tuple[Input, ...]) -> list[MonitoredChannel]:
        """Connect to what is wanted and not yet monitored, leave what is not wanted any more; returns those left."""
        kept = [channel for channel in self.channels if channel.spec in wanted]
        left = [channel for channel in self.channels if channel.spec not in wanted]
        for channel in left:
            channel.close()
        have = {channel.spec for channel in kept}
        self.channels = kept + [self._monitor(spec) for spec in wanted if spec not in have]
        return left

    def _monitor(self, spec: Input) -> MonitoredChannel:
        return MonitoredChannel(
            spec, queue_length=self._queue_length, id_fields=self._id_fields, epoch=self._epoch
        )

    def probed(self) -> bool:
        """Whether every monitor has received its first update; DataError when the id field is missing."""
        # Every channel is asked, also after the first that has none.
        return sum(channel.take_probe(self._id_fields) for channel in self.channels) == len(self.channels)

    def wait_for_probes(self, *, timeout_s: float, should_stop: Callable[[], bool]) -> bool:
        """Wait until every monitor has its probe. False when told to stop; WorldError when time is up."""
        deadline = time.monotonic() + timeout_s
        while not self.probed():
            if should_stop():
                return False
            if time.monotonic() > deadline:
                silent = [channel.spec.channel for channel in self.channels if channel.probe is None]
                raise WorldError(
                    f"no update came from {', '.join(silent)} within {timeout_s:g} s",
                    hint="is the server up and reachable from this node? `beamcast plan` prints the addresses",
                )
            time.sleep(0.005)
        return True

    @property
    def queued(self) -> int:
        """Updates that wait in the receiver queues."""
        return sum(len(channel.queue) for channel in self.channels)

    def close(self) -> None:
        """Stop all monitors."""
        self.follow(())
