"""The metadata member: monitors all metadata channels and the ids and times of the frames, joins them once for all
ranks, and serves the rows as batches on one channel. It sees the id of every frame, so it also tells the controller
which ones the source sent."""

import logging
import time
from collections import deque
from typing import Any

from beamcast.config.workflow import Metadata
from beamcast.core.errors import DataError, WorldError
from beamcast.core.ids import Epoch, EpochTracker, FrameId
from beamcast.core.joining import Joiner, MatchRule, Row
from beamcast.core.keyset import encode_keys
from beamcast.members.host.exits import EXIT_DONE, EXIT_FAILED
from beamcast.members.member import Member, Report
from beamcast.members.setup import leave, member_parser, prepare, run_member
from beamcast.pools.tally import take_keys
from beamcast.pva.ca_mirror import MAY_BE_DENIED
from beamcast.pva.messages import Counters, Delta, MemberId, MetadataPlan, Orders, decode_metadata_plan
from beamcast.pva.metadata import BatchRecord, MetadataMonitor

logger = logging.getLogger(__name__)

# Rows of this much time go into one batch. A batch wakes every rank, which costs each some 0.1 ms of processor time:
# at 1 kHz and four ranks, 10 ms more per batch are 20 µs less per frame. A frame waits for its row half as long.
BATCH_S = 0.02
# Updates of a channel in one turn. Behind them, rows go out before more is taken: where this process gets a tenth of a
# core, a turn over all that waits took seconds, and all ranks had given up on their rows.
TURN_UPDATES = 500
# So often it is seen whether a channel has gone.
LOOK_S = 0.1
# In updates: a second at 20 kHz may wait while this process is held up.
QUEUE_UPDATES = 20_000
# Rows that a rank gets which takes the place of a dead one: the frames that it is sent again were joined before.
HISTORY_ROWS = 10_000


def match_rule(metadata: Metadata) -> MatchRule:
    """What the workflow says, in the units of the joiner."""
    tolerance = metadata.tolerance
    return MatchRule(
        metadata.name,
        metadata.match,
        tolerance_ns=None if tolerance is None else round(tolerance * 1e9),
        offset_ns=round(metadata.offset * 1e9),
        wait_s=float(metadata.wait),
    )


ARE_THEY_THERE = "are their IOCs running, and are these their exact names?"
SENDS_NOTHING = ": connected, but it sends no value"


class MetadataMember:
    """Joins from the first order until the order to stop."""

    def __init__(self, member: Member, server: Any, plan: MetadataPlan) -> None:
        """Frames that come while there is none, until the next one has taken its place, have no metadata."""
        self._member = member
        self._plan = plan
        self._record = BatchRecord(server, plan.channel)
        self._joiner = Joiner([match_rule(metadata) for metadata in plan.metadata])
        self._monitors: list[MetadataMonitor] = []
        self._frames: MetadataMonitor | None = None
        self._keys = EpochTracker(Epoch(0))
        self._last: int | None = None
        self._timed = False
        self._look_at = 0.0
        self._history: deque[Row] = deque(maxlen=HISTORY_ROWS)
        self._known: set[MemberId] = set()
        self._newcomers = 0
        self._armed = False
        self._fresh_epoch: Epoch | None = None
        self._seen: list[int] = []
        self.go = False
        self.stop = False

    def run(self) -> None:
        """Until told to stop. WorldError when a channel that is needed does not appear in time, DataError when the
        frames have no id or a metadata channel no value."""
        while not self.go:
            if self._over():
                return
            time.sleep(0.005)
        self._connect()
        if not self._wait_for_channels():
            return
        self._member.serves = (self._plan.channel,)
        self._member.now("ready")
        while not self._over():
            if not self._turn():
                time.sleep(BATCH_S)

    def _over(self) -> bool:
        return self.stop or self._member.abandoned

    def _connect(self) -> None:
        plan = self._plan
        self._frames = MetadataMonitor(
            plan.frames,
            value_field=None,
            id_field=plan.id_field,
            timestamp_field=plan.timestamp_field,
            queue=QUEUE_UPDATES,
        )
        self._monitors = [
            MetadataMonitor(
                metadata.channel,
                provider=metadata.protocol,
                id_field=metadata.id_field if metadata.match == "id" else None,
                queue=QUEUE_UPDATES,
            )
            for metadata in plan.metadata
        ]

    def _wait_for_channels(self) -> bool:
        """False when told to stop before."""
        assert self._frames is not None
        deadline = time.monotonic() + self._plan.appear_timeout_s
        while not all(monitor.seen_anything for monitor in (self._frames, *self._monitors)):
            if self._over():
                return False
            if time.monotonic() > deadline:
                self._some_are_silent()
                break
            time.sleep(0.01)
        return True

    def _some_are_silent(self) -> None:
        silent = [
            (metadata, monitor.connected)
            for metadata, monitor in zip(self._plan.metadata, self._monitors, strict=True)
            if not monitor.seen_anything
        ]
        assert self._frames is not None
        needed = [
            f"{one.name} ({one.protocol} {one.channel}{SENDS_NOTHING if connected else ''})"
            for one, connected in silent
            if one.absent == "fail"
        ]
        needed += [] if self._frames.seen_anything else [f"the frames ({self._plan.frames})"]
        if needed:
            denied = any(connected for one, connected in silent if one.absent == "fail")
            raise WorldError(
                f"no update came within {self._plan.appear_timeout_s:g} s from metadata {', '.join(needed)}",
                hint=f"{MAY_BE_DENIED if denied else ARE_THEY_THERE} With absent = 'go-on' the run does without",
            )
        for one, connected in silent:
            how = "is connected, and sends no value" if connected else "has not appeared"
            logger.warning("metadata %s: %s %s; going on without", one.name, one.channel, how)

    def _turn(self) -> bool:
        """Whether more waits than was taken."""
        joiner = self._joiner
        behind = set()
        for number, monitor in enumerate(self._monitors):
            updates = monitor.take(TURN_UPDATES)
            joiner.updates(number, updates)
            if len(updates) == TURN_UPDATES:
                behind.add(number)
        now = time.monotonic()
        frames = self._take_frames(now)
        joiner.expire(now, but=behind)
        if now > self._look_at:
            self._look_at = now + LOOK_S
            for each in (self._frames, *self._monitors):
                if each is not None:
                    each.look(now)
        rows = joiner.take()
        self._record.publish(rows)
        self._history.extend(rows)
        if self._newcomers:
            self._newcomers = 0
            self._record.publish(list(self._history), again=True)
        return bool(behind) or frames == TURN_UPDATES

    def _take_frames(self, now: float) -> int:
        """How many updates of the frames' channel there were."""
        assert self._frames is not None
        if self._fresh_epoch is not None:
            self._keys, self._fresh_epoch = EpochTracker(self._fresh_epoch), None
        updates = self._frames.take(TURN_UPDATES)
        for time_ns, _, frame_id in updates:
            if frame_id is None:
                raise DataError(
                    f"channel {self._plan.frames} has no integer id field {self._plan.id_field!r}",
                    hint="set id_field under [source] to the field that numbers the frames",
                )
            first = self._last is None
            if first or frame_id == self._last:
                self._last = frame_id  # the value that the channel has when we connect belongs to no run
                continue
            if time_ns is None and self._timed and self._last is not None and frame_id < self._last:
                continue  # what a restarted detector shows before its first frame
            self._timed = self._timed or time_ns is not None
            self._last = frame_id
            key = self._keys.observe(FrameId(frame_id))
            if self._armed:
                self._seen.append(key)
            self._joiner.frame(key, time_ns, now=now)
        return len(updates)

    def obey(self, orders: Orders) -> None:
        """Take orders; runs on the heartbeat thread."""
        self.go = self.go or orders.probe is not None
        if orders.arm and not self._armed:
            self._armed = True
            # Everybody counts from here, in the place of a dead one from where the run is.
            self._fresh_epoch = Epoch(orders.epoch)
        for newcomer in orders.reborn:
            if newcomer not in self._known:
                self._known.add(newcomer)
                self._newcomers += 1
        self.stop = self.stop or orders.stop

    def collect(self) -> Report:
        """How the joining goes; runs on the heartbeat thread."""
        facts = {"frames": float(self._joiner.frames), "waiting": float(self._joiner.waiting)}
        for column, monitor in zip(self._joiner.columns, self._monitors, strict=False):
            name = column.rule.name
            facts[f"updates:{name}"] = float(column.updates)
            facts[f"matched:{name}"] = float(column.matched)
            facts[f"unmatched:{name}"] = float(column.unmatched)
            facts[f"unusable:{name}"] = float(column.unusable)
            facts[f"rejected:{name}"] = float(monitor.rejected)
        seen = take_keys(self._seen)
        return Report(
            delta=Delta(seen=encode_keys(seen) if seen else b""),
            counters=Counters(received=self._joiner.frames),
            facts=facts,
        )


def main() -> None:
    """Entry point of the process."""
    parser = member_parser(__doc__ or "")
    parser.add_argument("--plan", required=True, help="the metadata plan as JSON")
    parser.add_argument("--search", action="store_true", help="find channels as the beamline's clients do")
    arguments = parser.parse_args()
    plan = decode_metadata_plan(arguments.plan.encode())
    ground = prepare(
        arguments, lambda join: join.cluster_interfaces, keep_client_environment=arguments.search
    )
    identity = MemberId(kind="metadata", generation=arguments.generation)

    def body(member: Member) -> int:
        import pvaccess

        server = pvaccess.PvaServer()
        ground.check_port()
        member.register(ground.whereabouts())
        one = MetadataMember(member, server, plan)
        with member.live(collect=one.collect, obey=one.obey):
            one.run()
        return EXIT_FAILED if member.abandoned else EXIT_DONE

    leave(run_member(ground, identity, body))


if __name__ == "__main__":
    main()
