"""The mirror of at-least-once delivery: receives every frame, decides which rank gets it, keeps it until its result
is final.

Frames come on the main thread, acks on the pvAccess thread of the RPC server; both act under one lock, so the
dispatcher sees one event at a time. The lock is held for microseconds: an update of a record copies no payload.

When the ids of the source go back, a new epoch begins: frames of the new one are held until every frame of the old one
is final and every member has been told, so that no id is ever ambiguous on its way.
"""

import logging
import os
import threading
import time
from collections import deque
from operator import lt
from pathlib import Path
from typing import Any

from beamcast.core.dispatch import RetryRules
from beamcast.core.errors import WorldError
from beamcast.core.ids import ID_BITS, ID_MASK, Epoch, EpochTracker, FixedEpoch, FrameId, frame_key
from beamcast.core.keyset import decode_keys, encode_keys
from beamcast.core.replay import Overflow, ReplayLimits
from beamcast.members.dispatcher.gulps import Gulps
from beamcast.members.dispatcher.outbox import Outbox, SingleFrames, StackedFrames
from beamcast.members.dispatcher.post import Post
from beamcast.members.host.exits import EXIT_DONE, EXIT_FAILED
from beamcast.members.join import SECRET_FILE
from beamcast.members.journal import KeyJournal
from beamcast.members.member import Member, Report
from beamcast.members.presence import Presence
from beamcast.members.setup import Ground, leave, member_parser, prepare, run_member
from beamcast.members.sight import Sight, unseen_ids, witness_facts
from beamcast.members.structure import StructureWatch, structure_changed
from beamcast.pools.inputs import id_field_of, payload_bytes, queue_of_bytes
from beamcast.pools.memory import keep_freed_memory
from beamcast.pools.tally import take_keys
from beamcast.pva.environment import check_bound, free_port
from beamcast.pva.fields import FirstValues, id_reader
from beamcast.pva.messages import (
    Answer,
    Counters,
    Delta,
    DispatchedPool,
    DispatchPlan,
    Join,
    MemberId,
    Orders,
    Progress,
    Request,
    Retired,
    Taken,
    decode_dispatch_plan,
)
from beamcast.pva.monitor import LiveMonitor
from beamcast.pva.rpc import RpcEndpoint
from beamcast.pva.stack import stack_request
from beamcast.pva.witness import Witness
from beamcast.security.secret import RunSecret

logger = logging.getLogger(__name__)

TICK_S = 0.1
WAIT_S = 0.02
# The part of the memory through which frames pass on their way to disk.
SPILL_BUFFER_SHARE = 0.25
# What a frame takes in memory beside its array: the objects of its structure, in C++ and here. Measured on NTNDArray
# (pvapy 5.6): 9.3 KiB. Without it, a buffer full of frames of 16 KiB would be half as large again as its bound.
STRUCTURE_BYTES = 9 * 1024 + 512
# More ids than this can't have passed between two mirrors: the detector counts in another way.
MAX_MISSED = 1_000_000


class Dispatching:
    """The frames of one source, to the ranks of the pools that read it."""

    def __init__(self, member: Member, server: Any, plan: DispatchPlan, *, run_dir: Path) -> None:
        self._member = member
        self._plan = plan
        self._lock = threading.RLock()
        self._posts = {pool.name: self._post(pool, server, run_dir) for pool in plan.pools}
        self._queue_frames = plan.queue
        self._monitor: LiveMonitor | None = None
        self._witness: Witness | None = None
        self._first_values = FirstValues()
        self._structure = StructureWatch(plan.source)
        self._presence = Presence()
        self._sight: Sight | None = None
        self._keys = FixedEpoch()
        self._last: int | None = None
        self._mirrored: list[int] = []
        self._waiting: deque[Any] = deque()  # of the next epoch
        self._next_epoch = 0
        self._lost_before_epoch = 0
        self._counts_from: int | None = None
        self._told: set[tuple[str, int, int]] = set()
        self._ending = False
        self.armed = False
        self.stop = False
        self._journal = KeyJournal(run_dir, "mirror")
        self._missed: list[int] = []
        self._dismissed: tuple[MemberId, ...] = ()
        self._had = self._resume()
        # Whether the source has been looked at: what it showed then belongs to nobody.
        self._began = self._had is not None

    def _resume(self) -> int | None:
        """Take up the work of a mirror that was killed: the last key that it had; None where there was none."""
        keys = self._journal.keys()
        if not keys:
            return None
        last = keys[-1]
        self._keys.epoch = Epoch(last >> ID_BITS)
        self._next_epoch = self._member.epoch = self._keys.epoch
        self._last = last & ID_MASK
        # It may have died before it could tell.
        self._mirrored = keys
        self._counts_from = last + 1
        self.armed = True
        logger.info("goes on after frame %d of epoch %d", self._last, self._keys.epoch)
        return last

    def _post(self, pool: DispatchedPool, server: Any, run_dir: Path) -> Post:
        spills = self._plan.overflow == "spill"
        limits = ReplayLimits(
            max_bytes=self._plan.replay_bytes,
            overflow=Overflow.SPILL if spills else Overflow.DROP,
            disk_bytes=self._plan.spill_bytes if spills else 0,
            spill_buffer_bytes=int(self._plan.replay_bytes * SPILL_BUFFER_SHARE) if spills else 0,
        )
        folder = Path(self._plan.spill_folder or run_dir / "spill") / pool.name
        return Post(
            pool.name,
            pool.channels,
            outbox=self._outbox(pool, server),
            leaf=pool.leaf,
            turn_frames=pool.batch,
            limits=limits,
            rules=RetryRules(
                max_attempts=pool.max_attempts,
                retire_on_ack=pool.retire_on_ack,
                retire_timeout_s=None if pool.retire_on_ack else self._plan.retire_timeout_s,
            ),
            window_frames=pool.window,
            lock=self._lock,
            spill_folder=folder,
        )

    def _outbox(self, pool: DispatchedPool, server: Any) -> Outbox:
        if pool.batch == 1:
            return SingleFrames(server, pool.channels, id_field=self._plan.id_field)
        return StackedFrames(
            server,
            pool.channels,
            id_field=self._plan.id_field,
            frames=pool.batch,
            wait_s=pool.batch_wait_s,
        )

    def run(self) -> None:
        """Until told to stop; WorldError when the source does not appear in time."""
        probe = self._connect()
        if probe is None:
            return
        read_id = id_reader(probe, id_field_of(probe, (self._plan.id_field,), channel=self._plan.source))
        size_bytes = payload_bytes(probe) + STRUCTURE_BYTES
        self._structure.begin(probe)
        with self._lock:
            for post in self._posts.values():
                post.open(probe)
        # As ids stand in keys: a negative one comes before the 0 that begins an epoch.
        current = read_id(probe) & ID_MASK
        if self._had is None:
            if not self._first_values.holds(probe, current, None):
                self._last = current
            self._wait_for_witness()
            self._began = True
            # Nothing counts yet. To a mirror that goes on, every frame does that has come since it looked.
            if all(pool.batch > 1 for pool in self._plan.pools):
                self._ask_for_less()
        else:
            self._go_on(self._had, current, probe, size_bytes)
        self._member.serves = tuple(channel for post in self._posts.values() for channel in post.channels)
        self._member.now("ready")
        try:
            self._frames(read_id, size_bytes)
        finally:
            with self._lock:
                posts = tuple(self._posts.values())
            for post in posts:
                post.close()

    def _go_on(self, had: int, current: int, probe: Any, size_bytes: int) -> None:
        """Spilled frames are sent, and the source's present one. What the source sent in between, nobody has."""
        with self._lock:
            for post in self._posts.values():
                post.resume(after=had, size_bytes=size_bytes)
        missed = range((had & ID_MASK) + 1, current)
        if len(missed) <= MAX_MISSED:
            self._missed = [frame_key(self._keys.epoch, FrameId(each)) for each in missed]
        else:
            logger.warning(
                "ids went from %d to %d meanwhile: nothing is counted as lost", had & ID_MASK, current
            )
        self._frame(current, probe, size_bytes)

    def _connect(self) -> Any:
        import pvaccess

        self._monitor = self._open()
        keys = None if self._had is None else EpochTracker(self._keys.epoch)
        self._witness = Witness(self._plan.source, id_fields=(self._plan.id_field,), keys=keys)
        self._sight = Sight(self._witness, self._plan.source)
        deadline = time.monotonic() + self._plan.appear_timeout_s
        while not (self.stop or self._member.abandoned):
            try:
                return self._monitor.queue.get(WAIT_S)
            except pvaccess.QueueEmpty:
                if time.monotonic() > deadline:
                    raise WorldError(
                        f"the source channel {self._plan.source} did not appear within "
                        f"{self._plan.appear_timeout_s:g} s",
                        hint="is the detector's IOC running, and is this its exact channel name? Where no search "
                        "reaches it, give `address` under [source]",
                    ) from None
        return None

    def _open(self) -> LiveMonitor:
        """The monitor of the source; WorldError when its queue is given in bytes and it does not appear in time."""
        plan = self._plan
        if plan.queue_bytes is not None:
            self._queue_frames = queue_of_bytes(
                plan.source,
                plan.queue_bytes,
                unknown=plan.queue,
                timeout_s=plan.appear_timeout_s,
                should_stop=lambda: self.stop or self._member.abandoned,
            )
        request = f"record[queueSize={self._queue_frames}]field()"
        return LiveMonitor(plan.source, request, queue_length=self._queue_frames)

    def _wait_for_witness(self) -> None:
        """DataError when the source's ids are not seen beside its frames: nobody would know what is lost before us."""
        deadline = time.monotonic() + self._plan.appear_timeout_s
        while self._witness is not None and not self._witness.seen_anything:
            if self.stop or self._member.abandoned:
                return
            if time.monotonic() > deadline:
                raise unseen_ids(self._plan.source, self._plan.appear_timeout_s)
            time.sleep(WAIT_S)

    def _ask_for_less(self) -> None:
        """Monitor the source once more, without the fields that stacks do not carry. It begins with the value that we
        have."""
        assert self._monitor is not None
        self._monitor.reopen(stack_request(self._plan.id_field, queue=self._queue_frames))

    def _frames(self, read_id: Any, size_bytes: int) -> None:
        monitor = self._monitor
        assert monitor is not None
        stacking = tuple(self._posts[pool.name] for pool in self._plan.pools if pool.batch > 1)
        waits = [WAIT_S, *(pool.batch_wait_s for pool in self._plan.pools if pool.batch > 1)]
        gulps = Gulps(monitor.queue, wait_s=min(waits))
        tick_at = 0.0
        while not (self.stop or self._member.abandoned):
            pvs = gulps.take()
            if pvs:
                self._gulp([read_id(pv) & ID_MASK for pv in pvs], pvs, size_bytes)
            now = time.monotonic()
            for post in stacking:
                with self._lock:
                    post.flush(now)
            if now > tick_at:
                tick_at = now + TICK_S
                self._tick(now, size_bytes)
                self._look_at_source(monitor, now)
                if monitor.dead(now) and not len(monitor.queue):
                    self._reopen(monitor)
                    gulps.queue = monitor.queue

    def _look_at_source(self, monitor: LiveMonitor, now: float) -> None:
        if self._witness is not None:
            self._witness.look(now)
        if not self._ending and self._presence.look(monitor.connected):
            logger.warning("%s is %s", self._plan.source, "back" if monitor.connected else "gone")

    def _reopen(self, monitor: LiveMonitor) -> None:
        logger.warning("%s is back, and its monitor is not: it is monitored anew", self._plan.source)
        monitor.reopen()
        if self._witness is not None:
            self._witness.reopen()

    def _gulp(self, ids: list[int], pvs: list[Any], size_bytes: int) -> None:
        """The frame path: frames that came together, in the order in which they came."""
        last = self._last
        if self.armed and not self._waiting and last is not None and last < ids[0] and _increase(ids):
            self._last = ids[-1]
            self._first_values.note(pvs[-1])
            self._dispatch(ids, pvs, size_bytes)
        else:
            for frame_id, pv in zip(ids, pvs, strict=True):
                self._frame(frame_id, pv, size_bytes)

    def _frame(self, frame_id: int, pv: Any, size_bytes: int) -> None:
        """A frame by itself, of which nothing is known yet."""
        last = self._last
        if (last is None or frame_id < last) and self._first_values.holds(pv, frame_id, last):
            return
        self._first_values.note(pv)
        self._last = frame_id
        if frame_id == last or not self.armed:
            return  # the source's current value once more, after a reconnect; or a frame before the run
        if self._waiting or (last is not None and frame_id < last):
            if not self._waiting:
                self._next_epoch = self._keys.epoch + 1
                logger.info("ids went back from %s to %d: epoch %d", last, frame_id, self._next_epoch)
            if len(self._waiting) * size_bytes < self._plan.replay_bytes:
                self._waiting.append((frame_id, pv))
            else:
                self._lost_before_epoch += 1
                self._mirrored.append(frame_key(Epoch(self._next_epoch), FrameId(frame_id)))
            return
        self._dispatch([frame_id], [pv], size_bytes)

    def _dispatch(self, ids: list[int], pvs: list[Any], size_bytes: int) -> None:
        observe = self._keys.observe
        keys: list[int] = [observe(FrameId(frame_id)) for frame_id in ids]
        self._journal.note(*keys)
        with self._lock:
            for post in self._posts.values():
                for key, pv in zip(keys, pvs, strict=True):
                    post.frame(key, pv, size_bytes)
        self._mirrored += keys

    def _tick(self, now: float, size_bytes: int) -> None:
        with self._lock:
            for post in self._posts.values():
                post.tick(now)
                if post.unfit:
                    raise structure_changed(self._plan.source, post.unfit)
        self._structure.check(lambda: self.stop or self._member.abandoned)
        if self._waiting and self._member.epoch >= self._next_epoch and self._old_is_over():
            self._begin_epoch(size_bytes)

    def _old_is_over(self) -> bool:
        """Whether every frame of the present epoch is final; once frames of the next one wait, that stays so."""
        with self._lock:
            return not any(post.dispatcher.held for post in self._posts.values())

    def _begin_epoch(self, size_bytes: int) -> None:
        self._keys.epoch = Epoch(self._next_epoch)
        if self._lost_before_epoch:
            logger.warning(
                "%d frames are lost: the buffer filled up before epoch %d",
                self._lost_before_epoch,
                self._next_epoch,
            )
            self._lost_before_epoch = 0
        before = -1
        while self._waiting:
            frame_id, pv = self._waiting[0]
            if frame_id < before:
                self._next_epoch += 1  # the source began once more in the meantime
                return
            before = frame_id
            self._waiting.popleft()
            self._dispatch([frame_id], [pv], size_bytes)

    # -- the other threads -----------------------------------------------------------------------------------------

    def handle(self, request: Request) -> Answer:
        """A message of a rank; runs on a pvAccess thread."""
        with self._lock:
            match request:
                case Join():
                    self._posts[request.pool].join(request)
                    return Taken()
                case Progress():
                    post = self._posts[request.pool]
                    return Taken(known=post.progress(request, now=time.monotonic()))
                case Retired():
                    keys = decode_keys(request.keys)
                    for post in self._posts.values():
                        # The result of one branch says nothing about what another has still to do.
                        if post.leaf == request.leaf:
                            post.retired(keys)
                    return Taken()
                case _:
                    raise TypeError(f"{type(request).__name__} is not for the dispatcher")

    def obey(self, orders: Orders) -> None:
        """Take orders; runs on the heartbeat thread."""
        if orders.arm and not self.armed and self._began:
            if self._witness is not None:
                self._witness.take()  # what was before belongs to nobody
                self._witness.count_epochs()
            # Where nothing has come but what a record shows before its first frame, 0 may be the first.
            first = 0 if self._last is None else self._last + 1
            self._counts_from = frame_key(Epoch(0), FrameId(first))
            self.armed = True
        self._member.epoch = max(self._member.epoch, orders.epoch)
        with self._lock:
            for dead in orders.dead:
                self._bury(dead)
            for reborn in orders.reborn:
                self._replay_for(reborn)
            self._rescale(orders)
        self._ending = orders.drain or orders.stop
        self.stop = self.stop or orders.stop

    def _rescale(self, orders: Orders) -> None:
        """Serve the ranks that have come, let those go that are to leave."""
        if self._member.serves:
            for name, channels in orders.channels.items():
                self._posts[name].extend(channels)
            self._member.serves = tuple(each for post in self._posts.values() for each in post.channels)
        self._dismissed = tuple(
            each for each in orders.leaving if self._posts[each.pool].leave(each.rank, each.generation)
        )

    def _bury(self, dead: MemberId) -> None:
        if dead.pool in self._posts and self._is_news(dead):
            self._posts[dead.pool].died(dead.rank, dead.generation)

    def _replay_for(self, reborn: MemberId) -> None:
        """Someone behind the first pools has taken the place of one that died with the results it held: every result
        that is not final is made again. Not before it receives: results made in between reach nobody."""
        if reborn.pool not in self._posts and self._is_news(reborn):
            for post in self._posts.values():
                post.results_lost()

    def _is_news(self, who: MemberId) -> bool:
        name = (who.pool, who.rank, who.generation)
        known = name in self._told
        self._told.add(name)
        return not known

    def collect(self) -> Report:
        """What passed since the last heartbeat; runs on the heartbeat thread."""
        ends_epoch = bool(self._waiting)
        seen = self._witness.take() if self._witness and self.armed else []
        from_ = self._counts_from
        seen = [key for key in seen if from_ is not None and key >= from_]
        unsure = self._witness.take_unsure() if self._witness else []
        seen += take_keys(self._missed)
        mirrored = take_keys(self._mirrored)
        # Frames of the next epoch wait: they have come, and are not yet counted.
        self._structure.note(seen=bool(seen), passed=bool(mirrored or ends_epoch))
        if self._sight is not None and self.armed:
            self._sight.note(seen=bool(seen), passed=bool(mirrored))
        with self._lock:
            failed = tuple(frame for post in self._posts.values() for frame in post.failed)
            for post in self._posts.values():
                post.failed.clear()
            acked = {name: post.take_acked() for name, post in self._posts.items()}
            facts = self._facts()
        delta = Delta(
            seen=encode_keys(seen) if seen else b"",
            unsure=encode_keys(unsure) if unsure and seen else b"",
            mirrored=encode_keys(mirrored) if mirrored else b"",
            failed=encode_keys([frame.key for frame in failed]) if failed else b"",
            acked={name: ranks for name, ranks in acked.items() if ranks},
        )
        return Report(
            delta=delta,
            failed_frames=failed,
            counters=Counters(received=len(mirrored), queued=self._queued()),
            counts_from=from_,
            # Not before: whoever numbers a late frame of the old epoch in the new one makes another frame of it.
            next_epoch=self._next_epoch if ends_epoch and self._old_is_over() else self._keys.epoch,
            ends_epoch=ends_epoch,
            dismissed=self._dismissed,
            last_key=mirrored[-1] if mirrored else None,
            facts=facts,
        )

    def _queued(self) -> int:
        return len(self._monitor.queue) if self._monitor is not None else 0

    def _facts(self) -> dict[str, float]:
        gauges = [post.dispatcher.gauges() for post in self._posts.values()]
        totals = [post.dispatcher.totals for post in self._posts.values()]
        return {
            "held_frames": float(sum(gauge.held_frames for gauge in gauges)),
            "held_bytes": float(sum(gauge.held_bytes for gauge in gauges)),
            "spilled_frames": float(sum(gauge.spilled_frames for gauge in gauges)),
            "seconds_left": min(gauge.seconds_left for gauge in gauges),
            "sent_again": float(sum(total.sends_again for total in totals)),
            "lost_by_policy": float(sum(total.lost for total in totals)),
            **self._presence.facts(),
            **witness_facts(self._witness, self._sight),
        }


def _increase(ids: list[int]) -> bool:
    return all(map(lt, ids, ids[1:]))


def main() -> None:
    """Entry point of the process."""
    parser = member_parser(__doc__ or "")
    parser.add_argument("--plan", required=True, help="the dispatch plan as JSON")
    parser.add_argument("--search", action="store_true", help="find the source as the beamline's clients do")
    arguments = parser.parse_args()
    plan = decode_dispatch_plan(arguments.plan.encode())
    keep_freed_memory()
    ground = prepare(
        arguments, lambda join: join.cluster_interfaces, keep_client_environment=arguments.search
    )
    identity = MemberId(kind="mirror", generation=arguments.generation)

    def body(member: Member) -> int:
        import pvaccess

        server = pvaccess.PvaServer()
        ground.check_port()
        member.register(ground.whereabouts())
        one = Dispatching(member, server, plan, run_dir=ground.run_dir)
        secret = RunSecret.read(ground.run_dir / SECRET_FILE)
        member.rpc_port = _lease(ground)
        RpcEndpoint(plan.channel, secret=secret, handle=one.handle).start()
        time.sleep(0.05)
        check_bound([member.rpc_port])
        member.rpc_channel = plan.channel
        with member.live(collect=one.collect, obey=one.obey):
            one.run()
        return EXIT_FAILED if member.abandoned else EXIT_DONE

    leave(run_member(ground, identity, body))


def _lease(ground: Ground) -> int:
    """A second port, for the RPC server; the environment is read when that starts."""
    join = ground.join
    first, last = join.served_ports
    port = free_port(
        first, last, ground.address, prefer=ground.port + 1 - first, taken=ground.join.promised_ports
    )
    os.environ["EPICS_PVAS_SERVER_PORT"] = str(port)
    return port


if __name__ == "__main__":
    main()
