"""A mirror that stands by itself for days: it comes back when its source does.

The C++ mirror takes its record away when the source disconnects, and leaves it to the client's search, which asks ever
less often, to bring it back: a restarted detector was missing for more than 25 s. A record that is made anew gets the
same channel out of the client's cache. So each lost source is asked for once a second, by the protocol's own TCP
search, and when it answers the process begins again, which takes half a second and a fresh client. That client asks a
name server of its own, which knows where the sources are: it never searches in vain.

It is supervised by what advances: a channel that is served and gets no updates for some seconds is looked at by a fresh
client, and when updates come there the process begins again too.
"""

import asyncio
import logging
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from beamcast.members.names import NameServerProcess
from beamcast.members.second_look import SecondLook
from beamcast.pva.endpoint import Endpoint
from beamcast.pva.mirror import Mirror
from beamcast.pva.search import ask

logger = logging.getLogger(__name__)

ASK_AGAIN_S = 1.0
ASK_TIMEOUT_S = 2.0
# A fresh client has connected after tenths of a second, as a rule; one that has not by then is given up.
CONNECT_S = 8.0
WATCH_QUEUE = 10000
# Without an update for so long, a source rests, or its connection has died and nobody has noticed.
STILL_S = 5.0


@dataclass(frozen=True, slots=True)
class MirroredChannel:
    """What is re-served as what. `queue` in frames."""

    source: str
    channel: str
    queue: int = 1000
    provider: str = "pva"


@dataclass(frozen=True, slots=True)
class ChannelCounts:
    """Numbers of one channel since its mirror began: updates that came, overruns that the source's server told (None
    with several channels: pvaccess knows only their sum), and how often the source came back."""

    channel: str
    serving: bool
    received: int
    overruns: int | None
    comebacks: int


@dataclass(slots=True)
class _Life:
    """How one channel is doing; `before`: its numbers when this process began."""

    spec: MirroredChannel
    added_at: float | None = None
    asked_at: float = float("-inf")
    was_serving: bool = False
    lives: int = 0
    received: int = 0
    overruns: int | None = None
    monitor: Any = None
    moved_at: float = 0.0
    look: SecondLook | None = None
    before: ChannelCounts | None = None


def _watch(channel: str) -> Any:
    """A monitor that counts the updates of a channel, by their times alone. Of several channels in one process, PvaPy's
    mirror counters give the sum for each."""
    import pvaccess

    monitor = pvaccess.Channel(channel)
    monitor.qMonitor(pvaccess.PvObjectQueue(1), f"record[queueSize={WATCH_QUEUE}]field(timeStamp)")
    return monitor


def _counts(life: _Life) -> ChannelCounts:
    before = life.before or ChannelCounts(
        life.spec.channel, serving=False, received=0, overruns=0, comebacks=-1
    )
    return ChannelCounts(
        channel=life.spec.channel,
        serving=life.was_serving,
        received=before.received + life.received,
        overruns=None if life.overruns is None else (before.overruns or 0) + life.overruns,
        comebacks=max(before.comebacks + life.lives, 0),
    )


class StandingMirror:
    """Keeps mirrored channels served. `tick` a few times a second, on one thread.

    `names` and `servers` go together: the name server that this process's clients ask, and where sources are looked
    for. Without them the client searches as the user's EPICS settings say.
    """

    def __init__(
        self,
        mirror: Mirror,
        channels: Sequence[MirroredChannel],
        *,
        names: NameServerProcess | None = None,
        servers: Sequence[Endpoint] = (),
        own: Endpoint | None = None,
        before: Sequence[ChannelCounts] = (),
        begin_again: Callable[[], None],
        directory: NameServerProcess | None = None,
    ) -> None:
        """`own`: where the mirrored channels are served; `directory`: a name server for their readers, which is kept
        alive. `begin_again`: replace this process by a fresh one, to which
        `counts` are given as `before`."""
        self._mirror = mirror
        self._begin_again = begin_again
        self._names = names
        self._servers = servers
        self._directory = directory
        if names is not None and own is not None:
            names.serve_at({each.channel: own for each in channels})
        known = {each.channel: each for each in before}
        self._lives = [_Life(each, before=known.get(each.channel)) for each in channels]

    def tick(self, now: float) -> None:
        """Look at every channel, and at the name server."""
        for server in (self._names, self._directory):
            if server is not None:
                server.revive()
        for life in self._lives:
            if self._mirror.serving(life.spec.channel):
                self._count(life, now)
                self._supervise(life, now)
            else:
                self._bring_back(life, now)

    def _count(self, life: _Life, now: float) -> None:
        if not life.was_serving:
            life.was_serving, life.moved_at = True, now
            life.lives += 1
            logger.info("%s is served as %s", life.spec.source, life.spec.channel)
        before = life.received
        if len(self._lives) == 1:
            counters = self._mirror.counters(life.spec.channel)
            life.received, life.overruns = counters.get("nReceived", 0), counters.get("nOverruns", 0)
        else:
            if life.monitor is None:
                life.monitor = _watch(life.spec.channel)
            life.received = life.monitor.getMonitorCounters().get("nReceived", 0)
        if life.received != before:
            life.moved_at = now

    def _supervise(self, life: _Life, now: float) -> None:
        if life.spec.provider != "pva":
            return
        if now - life.moved_at < STILL_S:
            if life.look is not None:  # what it sees now says nothing of a channel that moves again
                life.look.close()
                life.look = None
            return
        if life.look is None:
            life.look = SecondLook(life.spec.source)
        sends = life.look.sends()
        if sends is None:
            return
        life.moved_at = now  # not the next look at once
        if sends:
            logger.warning(
                "%s goes on, %s stands still: beginning again", life.spec.source, life.spec.channel
            )
            self.close()
            self._begin_again()

    def close(self) -> None:
        """End what is under way."""
        for life in self._lives:
            if life.look is not None:
                life.look.close()

    def _bring_back(self, life: _Life, now: float) -> None:
        if life.was_serving:
            life.was_serving = False
            life.added_at = float("-inf")  # it did connect: the next time is another one
            logger.warning("%s is gone, %s with it", life.spec.source, life.spec.channel)
        if life.added_at is not None and now - life.added_at < CONNECT_S:
            return
        if now - life.asked_at < ASK_AGAIN_S:
            return
        life.asked_at = now
        if self._names is None:
            if life.added_at is None:
                self._add(life, now)
            return
        found = self._find(life.spec.source)
        if found is None:
            return
        if life.added_at is not None:
            self.close()
            self._begin_again()
        self._names.serve_at({life.spec.source: found})
        self._add(life, now)

    def _find(self, source: str) -> Endpoint | None:
        for server in self._servers:
            try:
                found = asyncio.run(asyncio.wait_for(ask(server, source), ASK_TIMEOUT_S))
            except (OSError, EOFError, ValueError, IndexError, struct.error):
                continue
            if found is not None:
                return found
        return None

    def _add(self, life: _Life, now: float) -> None:
        spec = life.spec
        self._mirror.serve(spec.channel, source=spec.source, queue=spec.queue, provider=spec.provider)
        life.added_at = now

    def counts(self) -> list[ChannelCounts]:
        """Numbers of each channel, of this one alone."""
        return [_counts(life) for life in self._lives]

    @property
    def serving(self) -> bool:
        """Whether every channel is served."""
        return all(life.was_serving for life in self._lives)

    def wait(self, *, timeout_s: float, stopped: "Sequence[bool]") -> bool:
        """Tick until every channel is served; False when time is up first, or `stopped` holds something."""
        deadline = time.monotonic() + timeout_s
        while not self.serving:
            if stopped or time.monotonic() > deadline:
                return False
            self.tick(time.monotonic())
            time.sleep(0.02)
        return True
