"""The input channels of a rank: monitors that fill C++ queues, and the ids that arrive in them.

The first update of a new monitor is the value that the server had when we connected. It proves that updates come
through (the probe) and may belong to another rank, so it is never processed. After a reconnect the server sends its
current value again; an id that repeats is counted as a duplicate.
"""

import itertools
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import numpy as np
from msgspec import structs
from pyroaring import BitMap64

from beamcast.core.errors import DataError, WorldError
from beamcast.core.ids import Epoch, EpochTracker, FixedEpoch, FrameKey
from beamcast.pva.fields import id_reader, is_blank
from beamcast.pva.first_value import is_marked
from beamcast.pva.messages import Input
from beamcast.pva.monitor import Resumption

# pvaccess may crash when a channel object goes away while its C++ threads still use it: those that were left are kept
# until the process ends, and taken again for the next generation of their name. Were a new one made for each, all of
# them would search together when the producer dies, and with some dozens pvaccess lets go of the name server before it
# has heard: a collector was not found for up to 64 s.
_LEFT: defaultdict[str, list[Any]] = defaultdict(list)
# Those that were looked at, with their queues.
_LOOKED_WITH: list[Any] = []
# Channels that were looked at and are connected, by name: whoever monitors one next takes it over. pvaccess searches at
# most each 0.2 s, and a run begins with half a dozen searches that wait for each other.
_LOOKED_AT: dict[str, Any] = {}

LOOK_AGAIN_S = 1.0
# The same where another channel would do that was not looked at before: to connect takes some milliseconds. Sooner
# than after a second a second channel to the same server may make pvaccess abort.
LOOK_ELSEWHERE_S = 0.25
# A channel that was taken again and shows nothing for so long is replaced by a new one, a new one after longer.
TAKEN_AGAIN_S = 1.5
NEW_S = 8.0
MAX_TRIES = 2
# Who takes another's place begins after so long with those of its inputs that are there.
SOME_AFTER_S = 0.5
# Who leaves a data distributor does so right after an update, when others have their turns; where none comes in this
# time, the stream has a pause and none is on its way.
TURN_S, TURN_LOOK_S = 0.5, 0.0002


def id_field_of(update: Any, candidates: tuple[str, ...], *, channel: str) -> str:
    """The first candidate that the update has as a field; DataError when it has none."""
    for name in candidates:
        if update.hasField(name):
            return name
    raise DataError(
        f"channel {channel} has no id field {candidates[0]!r}; its fields are: {', '.join(sorted(update.keys()))}",
        hint="set id_field under [source] to the field that numbers the frames",
    )


def payload_bytes(update: Any) -> int:
    """Bytes of the array in an update's `value`; 0 where it has none."""
    value = update["value"] if update.hasField("value") else None
    if isinstance(value, tuple) and value and isinstance(value[0], dict):
        return sum(np.asarray(array).nbytes for array in value[0].values())
    return int(value.nbytes) if isinstance(value, np.ndarray) else 0


def look_at(channel: str, *others: str, timeout_s: float, should_stop: Callable[[], bool]) -> Any:
    """The channel's current value, by a monitor outside the distribution, so without a turn in it. Where `others` have
    values of the same structure, one of those does as well: they are looked at in turn until one answers.

    None when told to stop; WorldError when there is no answer within `timeout_s` seconds. A plain get is not used:
    one that times out before its channel has connected can crash the process when the channel connects later.
    """
    import pvaccess

    deadline = time.monotonic() + timeout_s
    names = (channel, *others)
    for number, name in enumerate(itertools.cycle(names), start=1):
        if should_stop():
            break
        look_s = LOOK_ELSEWHERE_S if number < len(names) else LOOK_AGAIN_S
        queue = pvaccess.PvObjectQueue(1)
        connection = pvaccess.Channel(name)
        connection.qMonitor(queue, "record[queueSize=2]field()")
        _LOOKED_WITH.append((connection, queue))
        while not should_stop():
            try:
                update = queue.get(look_s)
            except pvaccess.QueueEmpty:
                if time.monotonic() > deadline:
                    raise WorldError(
                        f"channel {name} does not answer within {timeout_s:g} s",
                        hint="is its server up and reachable from this node? `beamcast plan` prints the addresses",
                    ) from None
                if connection.isConnected():
                    continue  # the update is on its way; asking again for one of 1 GiB would double what comes
                connection.stopMonitor()
                break  # a new channel asks the name server at once, this one would wait ever longer
            connection.stopMonitor()
            _LOOKED_AT[name] = connection
            return update
    return None


def open_channel(name: str, *, new: bool = False) -> tuple[Any, bool]:
    """A pvaccess channel that has no monitor, and whether it had one of a producer that was left: it has most often
    found the next one by then. With `new` not such a one. One that was looked at and is connected comes first."""
    import pvaccess

    left = _LEFT[name]
    looked_at = _LOOKED_AT.pop(name, None)
    if looked_at is not None:
        if looked_at.isConnected():
            return looked_at, False
        left.append(looked_at)
    if new or not left:
        return pvaccess.Channel(name), False
    return left.pop(next((at for at, each in enumerate(left) if each.isConnected()), -1)), True


def frames_that_fit(queue_bytes: int, frame_bytes: int) -> int:
    """How many frames a queue of that many bytes holds; one at least, or nothing would come through."""
    return max(1, queue_bytes // frame_bytes)


def queue_of_bytes(
    channel: str, queue_bytes: int, *, unknown: int, timeout_s: float, should_stop: Callable[[], bool]
) -> int:
    """How many frames of the present one's size a queue for `channel` holds; `unknown` for one without an array, such
    as a detector's before its first frame. WorldError as `look_at`."""
    seen = look_at(channel, timeout_s=timeout_s, should_stop=should_stop)
    frame_bytes = 0 if seen is None else payload_bytes(seen)
    return frames_that_fit(queue_bytes, frame_bytes) if frame_bytes else unknown


_QUEUE_SIZE = re.compile(r"queueSize=[0-9]+")


class MonitoredChannel:
    """One monitor. `queue` holds updates in the order in which they came."""

    __slots__ = (
        "_channel",
        "_counted",
        "_frame_bytes",
        "_resumption",
        "_show_until",
        "_taken_again",
        "gathered",
        "id_field",
        "more",
        "observe",
        "probe",
        "probe_id",
        "queue",
        "read_id",
        "spec",
        "timed",
        "tracker",
        "tried",
    )

    def __init__(
        self,
        spec: Input,
        *,
        queue_length: int,
        id_fields: tuple[str, ...],
        keys: EpochTracker | FixedEpoch,
        gathered: list[int],
        server_queue: int | None = None,
        tried: int = 0,
    ) -> None:
        """`server_queue`: frames, instead of those that the request says. `tried`: how often it was begun in vain."""
        import pvaccess

        self.spec = spec
        # Frames that came in addition to the updates that pvAccess counts: an update may be a stack of them.
        self.more = 0
        self.gathered = gathered
        self.tracker = keys
        self.observe = self.tracker.observe
        self.queue = pvaccess.PvObjectQueue(queue_length)
        self.id_field = id_fields[0]
        self.read_id: Callable[[Any], Any] = itemgetter(self.id_field)
        self.probe: Any = None
        self.probe_id: Any = None
        # Whether its frames have time stamps; not known before the first one.
        self.timed = False
        self._frame_bytes: int | None = None
        # Where the server lives on, what was amiss with the old monitor may be so with its channel.
        channel, self._taken_again = open_channel(spec.channel, new=tried > 0)
        self._channel: Any = channel
        # What its monitor had counted, when the channel is gone.
        self._counted: Mapping[str, int] = {}
        self.tried = tried
        self._show_until = time.monotonic() + (TAKEN_AGAIN_S if self._taken_again else NEW_S)
        request = spec.request
        if server_queue is not None:
            request = _QUEUE_SIZE.sub(f"queueSize={server_queue}", request)
        self._resumption = Resumption()
        channel.qMonitor(self.queue, request)

    def dead(self, now: float) -> bool:
        """Whether it has to be monitored anew; ask as `Resumption` says."""
        channel = self._channel
        return channel is not None and self._resumption.failed(channel, now)

    def take_probe(self, id_fields: tuple[str, ...]) -> bool:
        """Whether the first update is there; DataError when it has none of the id fields."""
        if self.probe is not None:
            return True
        if not len(self.queue):
            return False
        probe = self.queue.get(0)
        self.id_field = id_field_of(probe, id_fields, channel=self.spec.channel)
        self.read_id = id_reader(probe, self.id_field)
        self.probe, self.probe_id = probe, self.read_id(probe)
        self.note(probe)
        return True

    def overdue(self, now: float) -> bool:
        """Whether nothing has come for so long that another pvaccess channel may do better. A first update of 1 GiB may
        still be on its way, and nobody takes the place of a server that was never there."""
        if self.probe is not None or now < self._show_until or self.tried == MAX_TRIES or len(self.queue):
            return False
        return self._taken_again or (self.tried > 0 and not self.connected)

    def is_first_value(self, frame_id: int, update: Any) -> bool:
        """Whether an update with id 0 is what a record shows before any frame. Where the next generation serves before
        we have been told of it, pvaccess takes us there by itself: its first value would become a result that nobody
        made, and an id that goes back would begin an epoch. Those of our own records are marked."""
        if is_marked(update):
            return True
        last = self.tracker.last
        if last is None or frame_id >= last:
            return False
        if self.timed:
            return is_blank(update)
        return bool(self.probe_id == 0) and not update.hasField("timeStamp")

    def note(self, update: Any) -> None:
        """A frame has come. Ask `timed` before; one of many will do."""
        self.timed = not is_blank(update) and bool(update.hasField("timeStamp"))

    @property
    def connected(self) -> bool:
        """Whether the channel is connected now."""
        channel = self._channel
        return channel is not None and bool(channel.isConnected())

    @property
    def frame_bytes(self) -> int:
        """Payload of one frame, taken from the probe: all frames of a stream have one size as a rule. 0 without one."""
        if self._frame_bytes is None and self.probe is not None:
            self._frame_bytes = payload_bytes(self.probe)
        return self._frame_bytes or 0

    def counters(self) -> tuple[int, int, int]:
        """(frames received, server overruns, rejected by the full receiver queue) as pvAccess counts updates, but for
        the probe."""
        channel = self._channel
        monitor = self._counted if channel is None else channel.getMonitorCounters()
        queue = self.queue.getCounters()
        received = monitor.get("nReceived", 0) + self.more - (self.probe is not None)
        return received, monitor.get("nOverruns", 0), queue.get("nRejected", 0)

    def pause(self) -> None:
        """Receive nothing more; what has come can still be taken. May be called again."""
        if self._channel is not None:
            self._channel.stopMonitor()

    def wait_for_turn(self) -> None:
        """Wait for the next update, for `TURN_S` at most. The data distributor gives the next ones to others then: what
        it has sent to a client that leaves before it has got it is lost."""
        had, until = self.counters()[0], time.monotonic() + TURN_S
        while self.counters()[0] == had and time.monotonic() < until:
            time.sleep(TURN_LOOK_S)

    def disconnect(self) -> None:
        """As `pause`, and the channel goes. A stopped monitor whose channel is there keeps its turn, and the data
        distributor waits for it with all frames of all ranks. pvaccess may crash with a channel that goes (once in some
        hundred times): only for who ends anyway."""
        channel = self._channel
        if channel is not None:
            channel.stopMonitor()
            self._counted = channel.getMonitorCounters()
            self._channel = None
            _LOOKED_WITH[:] = [kept for kept in _LOOKED_WITH if kept[0] is not channel]

    def close(self) -> None:
        """Stop the monitor."""
        self.pause()
        if self._channel is not None:
            _LEFT[self.spec.channel].append(self._channel)


class Inputs:
    """All monitors of a rank; changed between frames by the frame loop's thread."""

    def __init__(
        self,
        *,
        queue_length: int,
        id_fields: tuple[str, ...],
        epoch: int,
        fixed_epoch: bool = False,
        counting: bool = True,
        seen: BitMap64 | None = None,
        epoch_began: Callable[[], None] | None = None,
    ) -> None:
        """`epoch` is the one in which the inputs begin. With `fixed_epoch` only `begin_epoch` changes it, without an
        id that goes back does; if not `counting`, only after `count_epochs`. `seen`: the keys that have come, where
        this is the only reader of a collector; a channel that is followed in place of another one then goes on in the
        epoch of that one, and a late frame begins none. `epoch_began` is called by whoever reads them."""
        self._counting = counting
        self._fixed = FixedEpoch(Epoch(epoch)) if fixed_epoch else None
        shared = seen is not None and not fixed_epoch
        self._shared = EpochTracker(Epoch(epoch), counting=counting, seen=seen) if shared else None
        self._queue_length = queue_length
        self._server_queue: int | None = None
        self._id_fields = id_fields
        self._epoch = epoch
        self._epoch_began = epoch_began
        self.channels: list[MonitoredChannel] = []
        self.dead: list[MonitoredChannel] = []
        self._left_counters = (0, 0, 0)
        # What came from which producer, by its rank; appended by a collector's loop, taken by the heartbeat.
        self.gathered: defaultdict[int, list[int]] = defaultdict(list)

    def size_queues(self, frame_bytes: int, *, receiver_bytes: int | None, server_bytes: int | None) -> None:
        """Choose queues by bytes for the monitors to come; without effect for a frame of unknown size (0)."""
        if frame_bytes and receiver_bytes is not None:
            self._queue_length = frames_that_fit(receiver_bytes, frame_bytes)
        if frame_bytes and server_bytes is not None:
            self._server_queue = frames_that_fit(server_bytes, frame_bytes)

    def follow(self, wanted: tuple[Input, ...]) -> list[MonitoredChannel]:
        """Connect to what is wanted and not yet monitored, leave what is not wanted any more; returns those left."""
        asked = {channel_of(spec) for spec in wanted}
        kept = [channel for channel in self.channels if channel_of(channel.spec) in asked]
        left = [channel for channel in self.channels if channel_of(channel.spec) not in asked]
        have = {channel_of(channel.spec) for channel in kept}
        # First, so that the next generation gets its predecessor's.
        self._close(left)
        for spec in wanted:
            if channel_of(spec) not in have:
                before = next((each for each in left if _is_renewed(each.spec, spec)), None)
                kept.append(self._monitor(spec, before, tried=int(before is not None)))
        self.channels = kept
        return left

    def reopen(self) -> None:
        """Monitor all of them anew. What has come and was not taken yet is given up."""
        self._close(self.channels)
        self.channels = [self._monitor(channel.spec, channel, tried=1) for channel in self.channels]

    def look(self, now: float) -> None:
        """See whether monitors have to be made anew; as often as `Resumption` says. From any thread. What has come
        through one is taken before that."""
        self.dead = [channel for channel in self.channels if channel.dead(now) and not len(channel.queue)]

    def revive(self) -> None:
        """Make those anew that were found dead."""
        dead, self.dead = [channel for channel in self.channels if channel in self.dead], []
        self._close(dead)
        self.channels = [
            self._monitor(channel.spec, channel, tried=1) if channel in dead else channel
            for channel in self.channels
        ]

    def try_again(self) -> None:
        """Monitor those anew that should have shown something by now."""
        now = time.monotonic()
        for at, channel in enumerate(self.channels):
            if channel.overdue(now):
                self._close([channel])
                self.channels[at] = self._monitor(channel.spec, channel, tried=channel.tried + 1)

    def _close(self, channels: list[MonitoredChannel]) -> None:
        self._left_counters = _sums([self._left_counters, *(channel.counters() for channel in channels)])
        for channel in channels:
            channel.close()

    def counters(self) -> tuple[int, int, int]:
        """As `MonitoredChannel.counters`, of all monitors that there have been."""
        return _sums([self._left_counters, *(channel.counters() for channel in self.channels)])

    def frame_bytes(self) -> int:
        """Payload of one frame, 0 while that is not known."""
        channels = self.channels
        return channels[0].frame_bytes if channels else 0

    def leave(self) -> None:
        """Receive nothing more, and have no turn any more; what has come stays in the queues. Takes up to `TURN_S` for
        each channel of a data distributor."""
        for channel in self.channels:
            if "distributor" in channel.spec.request:
                channel.wait_for_turn()
                channel.disconnect()
            else:
                channel.pause()

    def _monitor(
        self, spec: Input, before: MonitoredChannel | None = None, *, tried: int = 0
    ) -> MonitoredChannel:
        keys = self._fixed or self._shared
        if self._shared is not None and spec.after is not None:
            self._shared.reach(FrameKey(spec.after))
        if keys is None and before is not None:
            keys = before.tracker
        return MonitoredChannel(
            spec,
            queue_length=self._queue_length,
            id_fields=self._id_fields,
            keys=keys
            or EpochTracker(
                Epoch(self._epoch), counting=self._counting, after=spec.after, changed=self._epoch_began
            ),
            gathered=self.gathered[spec.producer],
            server_queue=self._server_queue,
            tried=tried,
        )

    def count_epochs(self) -> None:
        """From now on an id that goes back begins an epoch. From any thread."""
        self._counting = True
        for channel in self.channels:
            if isinstance(channel.tracker, EpochTracker):
                channel.tracker.counting = True

    def begin_epoch(self, epoch: int) -> None:
        """Number frames in a later epoch from now on; an earlier one is ignored."""
        if self._fixed is not None and epoch > self._fixed.epoch:
            self._fixed.epoch = Epoch(epoch)

    def reached(self) -> int | None:
        """The key of the last frame that came, or that they begin after; None where that is not known."""
        return max(
            (one.tracker.reached for one in self.channels if one.tracker.reached is not None), default=None
        )

    def receiving(self) -> bool:
        """Whether all monitors are connected now, and each has had its first update: before that, updates may become
        one on their way."""
        return all(channel.probe is not None and channel.connected for channel in self.channels)

    def probed(self) -> bool:
        """Whether every monitor has received its first update; DataError when the id field is missing."""
        # Every channel is asked, also after the first that has none.
        return sum(channel.take_probe(self._id_fields) for channel in self.channels) == len(self.channels)

    def wait_for_probes(
        self,
        *,
        timeout_s: float,
        should_stop: Callable[[], bool],
        news: Callable[[], tuple[Input, ...] | None] = lambda: None,
        some_after_s: float | None = None,
    ) -> bool:
        """Wait until every monitor has its probe. False when told to stop; WorldError when time is up.

        `news` says what is to be followed instead from now on, None where nothing has changed. After `some_after_s`
        it suffices that one of several has its probe; `probed` takes those that come later.
        """
        began = time.monotonic()
        deadline = began + timeout_s
        while not self.probed():
            wanted = news()
            if wanted is not None:
                self.follow(wanted)
            self.try_again()
            if should_stop():
                return False
            if some_after_s is not None and time.monotonic() > began + some_after_s and self.follows():
                return True
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

    def follows(self) -> dict[int, int]:
        """The generation of each producer from which updates have come, by the producer's rank."""
        return {
            channel.spec.producer: channel.spec.generation
            for channel in self.channels
            if channel.probe is not None
        }


def channel_of(spec: Input) -> Input:
    """The same, wherever its frames are counted from: once it is monitored that is not asked any more."""
    return structs.replace(spec, after=None)


def _is_renewed(before: Input, now: Input) -> bool:
    """Whether it is the same channel of the same server, whose record was made anew."""
    same = (before.channel, before.producer, before.generation) == (now.channel, now.producer, now.generation)
    return same and before.renewed != now.renewed


def _sums(counters: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    received, overruns, rejected = map(sum, zip(*counters, strict=True))
    return received, overruns, rejected
