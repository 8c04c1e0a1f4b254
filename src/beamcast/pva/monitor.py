"""A monitor of a channel of others that goes on when the channel's record was taken away and made anew.

pvaccess takes a monitor up again by itself where the connection broke. Where a living server removed the record, as a
mirror does whose own source has gone, it has told the monitor that it is over: the channel connects again, the server
sends, and no update comes out (seen with two of two monitors). Nothing but the missing first value tells.
"""

from collections.abc import Iterator
from typing import Any

# A monitor that lives shows the channel's present value at once after a reconnect. Where that takes longer, one is made
# anew without need, once.
FIRST_VALUE_S = 2.0


class Resumption:
    """Whether a monitor was taken up again when its channel came back."""

    __slots__ = ("_connected_at", "_lost", "_received")

    def __init__(self) -> None:
        self._lost = False
        self._received = 0
        self._connected_at: float | None = None

    def failed(self, channel: Any, now: float) -> bool:
        """Whether the monitor of this pvaccess channel is dead. Ask several times a second, `now` by a steady clock: a
        loss that was over in between is not noticed."""
        received = channel.getMonitorCounters().get("nReceived", 0)
        if not channel.isConnected():
            # One that has received nothing yet is a fresh one.
            self._lost, self._received, self._connected_at = received > 0, received, None
        elif self._lost:
            if received != self._received:
                self._lost = False
            elif self._connected_at is None:
                self._connected_at = now
            return self._lost and now - (self._connected_at or now) > FIRST_VALUE_S
        return False


class LiveMonitor:
    """Fills `queue`, a `PvObjectQueue` that `reopen` replaces. One thread at a time."""

    def __init__(self, channel: str, request: str, *, queue_length: int, provider: str = "pva") -> None:
        """`queue_length` in updates; `provider` "pva" or "ca"."""
        self._name = channel
        self._request = request
        self._queue_length = queue_length
        self._provider = provider
        # Kept: pvaccess may crash when a channel object goes away while its threads still use it.
        self._left: list[tuple[Any, Any]] = []
        self._open(request)

    def _open(self, request: str) -> None:
        import pvaccess

        provider = pvaccess.CA if self._provider == "ca" else pvaccess.PVA
        self.queue = pvaccess.PvObjectQueue(self._queue_length)
        self._channel = pvaccess.Channel(self._name, provider)
        self._request = request
        self._resumption = Resumption()
        self._channel.qMonitor(self.queue, request)

    def reopen(self, request: str | None = None) -> None:
        """Monitor the channel anew, with another request if there is one. What waits in the old queue is still
        given by `take`."""
        self._channel.stopMonitor()
        self._left.append((self._channel, self.queue))
        self._open(request or self._request)

    @property
    def connected(self) -> bool:
        """Whether the channel is connected now."""
        return bool(self._channel.isConnected())

    def lost(self) -> int:
        """Updates that are known to have been left out on the way, by the server's queue or by ours: a lower bound."""
        left = sum(queue.getCounters().get("nRejected", 0) for _, queue in self._left)
        counted = self._channel.getMonitorCounters().get("nOverruns", 0)
        return int(left + counted + self.queue.getCounters().get("nRejected", 0))

    def dead(self, now: float) -> bool:
        """Whether it has to be reopened; ask as `Resumption` says."""
        return self._resumption.failed(self._channel, now)

    def take(self) -> Iterator[Any]:
        """The updates that wait."""
        for _, queue in (*self._left, (self._channel, self.queue)):
            for _ in range(len(queue)):
                yield queue.get(0)

    def dropped(self) -> int:
        """Updates that were dropped since a queue was full, the server's or ours; at least so many."""
        lost = 0
        for channel, queue in (*self._left, (self._channel, self.queue)):
            lost += channel.getMonitorCounters().get("nOverruns", 0) + queue.getCounters().get("nRejected", 0)
        return lost

    def close(self) -> None:
        """Stop the monitor."""
        self._channel.stopMonitor()
