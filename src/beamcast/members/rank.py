"""One rank of a pool: receives its share of the frames, runs the user's processor, publishes the output."""

import logging
import os
import time
from collections import deque
from pathlib import Path
from typing import Any

from msgspec import structs

from beamcast.core.commands import REFUSED, Command, Outcome, parse_command
from beamcast.core.errors import BeamcastError, UsageError
from beamcast.core.gather import PartGatherer
from beamcast.core.keyset import decode_keys, encode_keys
from beamcast.core.place import Place
from beamcast.core.reorder import ReorderWindow
from beamcast.members.exits import EXIT_DONE, EXIT_FAILED
from beamcast.members.hardware import bound_cpus, given_gpu
from beamcast.members.join import BASE
from beamcast.members.member import Member, Report
from beamcast.members.parent import die_with_parent
from beamcast.members.setup import Ground, leave, member_parser, prepare, run_member
from beamcast.members.understudy import wait_for_cue
from beamcast.pools.acks import Acks
from beamcast.pools.collector import CollectorLoop
from beamcast.pools.consumer import ConsumerLoop
from beamcast.pools.forward import Forwarder
from beamcast.pools.frame import Frame, GatheredFrame
from beamcast.pools.inputs import Inputs, id_field_of, look_at, payload_bytes
from beamcast.pools.memory import keep_freed_memory
from beamcast.pools.metadata import PATIENCE_S, JoinedWork, MetadataFeed, frame_with_metadata
from beamcast.pools.opened import Admission, PoolOpener
from beamcast.pools.output_seal import PoolSealer
from beamcast.pools.processor import Context, Station, load_processor, open_output
from beamcast.pools.pusher import Pusher
from beamcast.pools.rank_pvs import RankPvs
from beamcast.pools.stacked import (
    StackedLoop,
    first_frame,
    pv_of_part,
    stacked_frame,
    stacked_frame_with_metadata,
)
from beamcast.pools.steering import Steering
from beamcast.pools.tally import Tally, take_keys
from beamcast.pools.work import MakeFrame, Work, make_work
from beamcast.pva.messages import (
    CommandAnswer,
    CommandOrder,
    Counters,
    Input,
    MemberId,
    Orders,
    RankDuty,
    Whereabouts,
)
from beamcast.pva.rpc import RpcCaller

logger = logging.getLogger(__name__)

DRAINED_QUIET_S = 0.4
OUTPUT_ID_FIELD = "uniqueId"


class Rank:
    """Ties the frame loop of one rank to the run: what it reports and how it obeys."""

    def __init__(self, member: Member, duty: RankDuty, place: Place, server: Any) -> None:
        self._member = member
        self._duty = duty
        self._place = place
        self._server = server
        self.steering = Steering()
        self._tally = Tally()
        pool, source = duty.pool, duty.source
        from_source = pool.input == "source"
        self._id_fields = (source.id_field,) if from_source else (OUTPUT_ID_FIELD, source.id_field)
        if duty.input_id_field is not None:
            self._id_fields = (duty.input_id_field,)
        self._appear_timeout_s = float(source.appear_timeout)
        self._to_probe: tuple[Input, ...] | None = None
        self._last_inputs: tuple[Input, ...] | None = None
        self._inputs = Inputs(
            queue_length=pool.receiver_queue,
            id_fields=self._id_fields,
            epoch=duty.epoch,
            fixed_epoch=bool(duty.dispatch_channel),
            counting=False,
        )
        self._acks = self._make_acks() if duty.dispatch_channel else None
        station = Station(
            rank=duty.rank,
            input_channel=duty.input_channel,
            output_channel=duty.output_channel,
            id_fields=self._id_fields,
            server=server,
        )
        self._processor = load_processor(pool.processor, pool.params, base=Path(duty.base), station=station)
        self._pusher = self._make_pusher() if duty.push_channel else None
        self._forward = Forwarder(pool.forward) if pool.forward is not None else None
        self._opener = self._make_opener()
        self._sealer = self._make_sealer()
        self._output = open_output(
            self._processor,
            station,
            tap=self._push if self._pusher else None,
            seal=self._sealer,
            first=self._forward,
        )
        self._gatherer = self._make_gatherer()
        self._work: Work = make_work(
            self._processor,
            self._output,
            self._tally,
            make_frame=self._frame_kind(),
        )
        self._feed = self._make_feed() if duty.metadata else None
        self._joined: JoinedWork | None = None
        if self._feed is not None:
            pv_of = pv_of_part if self._stacked else None
            self._work = self._joined = JoinedWork(self._work, duty.metadata, self._feed, pv_of=pv_of)
        self._admit = Admission(self._opener, self._work) if self._opener is not None else None
        self._loop = self._make_loop()
        self._answers: deque[CommandAnswer] = deque()
        self._asked = 0
        self._pvs = RankPvs(
            server,
            duty,
            self.steering,
            self._processor,
            counters=self._counters,
            leave=self._inputs.leave,
            queued=lambda: self._loop.queued,
            configured=self._configured_by_client,
        )
        self._began = time.monotonic()

    def _make_loop(self) -> ConsumerLoop | CollectorLoop:
        if self._duty.pool.role == "consumer":
            look = None if self._acks is None else self._acks.look
            loop = StackedLoop if self._stacked else ConsumerLoop
            return loop(self._inputs, self._work, self.steering, after_burst=look, admit=self._admit)
        pool = self._duty.pool
        window: ReorderWindow[Any] = ReorderWindow(
            capacity=pool.reorder_window, max_wait_s=float(pool.reorder_timeout)
        )
        self._window = window
        return CollectorLoop(
            self._inputs,
            self._work,
            self.steering,
            window=window,
            gatherer=self._gatherer,
            repeats=self._duty.repeats,
            admit=self._admit,
        )

    @property
    def _stacked(self) -> bool:
        """Whether frames come in stacks, from the dispatcher."""
        return self._duty.pool.input == "source" and self._duty.pool.batch > 1

    def _frame_kind(self) -> MakeFrame:
        if self._stacked:
            return stacked_frame_with_metadata if self._duty.metadata else stacked_frame
        if self._duty.metadata:
            return frame_with_metadata
        return Frame if self._gatherer is None else GatheredFrame

    def _make_feed(self) -> MetadataFeed:
        """For a rank whose frames are joined with metadata."""
        duty = self._duty
        return MetadataFeed(
            duty.metadata_channel,
            capacity=duty.metadata_rows,
            patience_s=PATIENCE_S + max(float(each.wait) for each in duty.metadata),
            should_stop=lambda: self.steering.stop,
        )

    def _make_gatherer(self) -> PartGatherer[Any] | None:
        """For a collector whose inputs bring parts of frames."""
        pool = self._duty.pool
        if pool.parts == 1:
            return None
        return PartGatherer(
            parts=pool.parts, capacity=pool.reorder_window, max_wait_s=float(pool.reorder_timeout)
        )

    def _make_opener(self) -> PoolOpener | None:
        pool = self._duty.pool
        if pool.open is None:
            return None
        # The dispatcher sends a frame again as it is, perhaps to the same rank.
        dispatched = bool(self._duty.dispatch_channel) and pool.input == "source"
        return PoolOpener(Path(self._duty.base) / pool.open, repeats=dispatched)

    def _make_sealer(self) -> PoolSealer | None:
        duty = self._duty
        if duty.pool.seal is None:
            return None
        sender = f"{self._member.join.run}/{duty.pool.name}/{duty.rank}"
        return PoolSealer(Path(duty.base) / duty.pool.seal, sender=sender, id_fields=self._id_fields)

    def _make_pusher(self) -> Pusher:
        """Nobody can connect to this rank to get its results."""
        duty, identity = self._duty, self._member.identity
        return Pusher(
            RpcCaller(duty.push_channel, secret=self._member.secret, sender=f"{identity}>#{os.getpid()}"),
            pool=duty.pool.name,
            rank=duty.rank,
            generation=identity.generation,
            should_stop=lambda: self._member.abandoned,
        )

    def _push(self, key: int | None, pv: Any) -> None:
        """What is published is pushed too. A processor that publishes by itself does so while it has the frame."""
        current = self._tally.current if key is None else key
        if self._pusher is not None and current is not None:
            self._pusher.put(current, pv)

    def _make_acks(self) -> Acks:
        """At-least-once: what was done is reported to the dispatcher too, and faster than by heartbeats."""
        duty, identity = self._duty, self._member.identity
        return Acks(
            self._tally,
            RpcCaller(duty.dispatch_channel, secret=self._member.secret, sender=f"{identity}#{os.getpid()}"),
            pool=duty.pool.name,
            rank=duty.rank,
            generation=identity.generation,
            window_frames=duty.pool.window if duty.pool.input == "source" else None,
            retires=duty.retires,
            leaf=duty.leaf,
            receiving=lambda: not self.steering.reopen and self._inputs.receiving(),
            reopen=self._reopen,
            idle=lambda: self._loop.quiet_for() > 0,
        )

    def _reopen(self) -> None:
        self.steering.reopen = True

    def run(self) -> None:
        """From the first order to the last frame."""
        self._processor.start(self._context())
        if self._duty.configured:
            self._processor.configure(parse_command("configure", self._duty.configured).values)
        try:
            if self._serve() and self._connect():
                self._member.now("ready")
                if self._acks is not None:
                    self._acks.start()
                self._loop.run()
        finally:
            if self._acks is not None:
                self._acks.stop()
            self._processor.stop()
            if self._pusher is not None:
                self._pusher.close()
            for helper in (self._opener, self._sealer):
                if helper is not None:
                    helper.close()

    def _serve(self) -> bool:
        """Look at the input, make the output channel like it. False when told to stop before."""
        while self._to_probe is None:
            if self.steering.stop:
                return False
            time.sleep(0.005)
        channel = self._to_probe[0].channel
        probe = look_at(channel, timeout_s=self._appear_timeout_s, should_stop=lambda: self.steering.stop)
        if probe is None:
            return False
        id_field = id_field_of(probe, self._id_fields, channel=channel)
        self._size_queues(payload_bytes(probe))
        if self._stacked:
            probe = first_frame(probe, id_field=id_field)
        record = self._output.open(probe if self._opener is None else self._opener.look(probe))
        if self._pusher is not None and not self._pusher.open(record):
            return False
        self._member.serves = (
            *self._output.channels,
            self._duty.status_channel,
            self._duty.control_channel,
        )
        self._member.now("serving")
        return True

    def _size_queues(self, frame_bytes: int) -> None:
        pool = self._duty.pool
        # What the dispatcher may have under way to a rank is bounded by the window.
        dispatched = bool(self._duty.dispatch_channel) and pool.input == "source"
        self._inputs.size_queues(
            frame_bytes,
            receiver_bytes=pool.receiver_queue_bytes,
            server_bytes=None if dispatched else pool.server_queue_bytes,
        )

    def _connect(self) -> bool:
        """Join the distribution and wait for the first updates. False when told to stop before."""
        while self.steering.inputs is None:
            if self.steering.stop:
                return False
            time.sleep(0.005)
        if self.steering.released and isinstance(self._loop, CollectorLoop):
            self._loop.released_before(decode_keys(self.steering.released))
        # Metadata first: the row of every frame that is sent to this rank comes too.
        if self._feed is not None and not self._feed.connect(timeout_s=self._appear_timeout_s):
            return False
        self._inputs.follow(self.steering.inputs)
        self.steering.inputs = None
        if not self._inputs.wait_for_probes(
            timeout_s=self._appear_timeout_s, should_stop=lambda: self.steering.stop
        ):
            return False
        if isinstance(self._loop, CollectorLoop):
            self._loop.start_producers()
        return True

    def _context(self) -> Context:
        run, pool = self._member.join.run, self._duty.pool.name
        return Context(run=run, pool=pool, place=self._place, base=Path(self._duty.base))

    def _configured_by_client(self, command: Command) -> None:
        """Parameters that somebody gave on the control PV: the controller keeps them for the next generation."""
        self._answers.append(CommandAnswer(number=0, arguments=command.arguments))

    def _carry_out(self, order: CommandOrder) -> None:
        """A command from the controller; it comes again until it is answered."""
        if order.number <= self._asked:
            return
        self._asked = order.number

        def answer(outcome: Outcome) -> None:
            self._answers.append(
                CommandAnswer(
                    number=order.number, code=outcome.code, message=outcome.message, stats=outcome.stats
                )
            )
            self._member.report_soon()

        try:
            command = parse_command(order.name, order.arguments)
        except UsageError as refused:
            answer(Outcome(REFUSED, str(refused)))
        else:
            self._pvs.commands.submit(command, answer)

    def _take_answers(self) -> tuple[CommandAnswer, ...]:
        return tuple(self._answers.popleft() for _ in range(len(self._answers)))

    def obey(self, orders: Orders) -> None:
        """Take the controller's orders; runs on the heartbeat thread."""
        if orders.arm:
            self._inputs.count_epochs()
        self._inputs.begin_epoch(orders.epoch)
        self._member.epoch = max(self._member.epoch, orders.epoch)
        if orders.probe is not None:
            self._to_probe = orders.probe
        if orders.connect is not None and orders.connect != self._last_inputs:
            self._last_inputs = orders.connect
            self.steering.released = orders.released
            self.steering.inputs = orders.connect
        for order in orders.commands:
            self._carry_out(order)
        self.steering.drain = orders.drain
        if orders.stop:
            self.steering.stop = True

    def collect(self) -> Report:
        """What has happened since the last heartbeat; runs on the heartbeat thread."""
        if self._acks is None:
            delta, failed_frames = self._tally.take()
        else:
            delta, failed_frames = self._tally.report(**self._acks.take())
        counters = self._counters()
        if self._duty.pool.role == "collector":
            delta = structs.replace(delta, gathered=self._gathered())
        if self._member.state in ("ready", "drained"):
            waiting = self._loop.queued + (self._pusher.waiting if self._pusher is not None else 0)
            quiet = self.steering.drain and not waiting and self._loop.quiet_for() > DRAINED_QUIET_S
            self._member.now("drained" if quiet else "ready")
        stuck_s = self._tally.stuck_s(time.monotonic())
        if self._member.serves:
            self._pvs.update(counters, stuck_s=stuck_s, last_id=self._last_id())
        return Report(
            delta=delta,
            counters=counters,
            failed_frames=failed_frames,
            follows=self._inputs.follows(),
            last_key=self._tally.current,
            answers=self._take_answers(),
            facts={
                "stuck_s": round(stuck_s, 3),
                **self._incomplete(),
                **self._refused(),
                **self._metadata_facts(),
            },
        )

    def _incomplete(self) -> dict[str, float]:
        return {} if self._gatherer is None else {"incomplete": float(self._gatherer.incomplete)}

    def _refused(self) -> dict[str, float]:
        return {} if self._admit is None else {"sealed_refused": float(self._admit.refused)}

    def _metadata_facts(self) -> dict[str, float]:
        if self._feed is None or self._joined is None:
            return {}
        return {
            "metadata_unmatched": float(self._joined.unmatched),
            "metadata_waited_s": round(self._feed.waited_s, 3),
        }

    def _gathered(self) -> dict[int, bytes]:
        taken = {producer: take_keys(keys) for producer, keys in self._inputs.gathered.items()}
        return {producer: encode_keys(keys) for producer, keys in taken.items() if keys}

    def _last_id(self) -> int | None:
        """The id of the last update that came."""
        channels = self._inputs.channels
        return channels[0].tracker.last if channels else None

    def _counters(self) -> Counters:
        received = overruns = rejected = 0
        for channel in self._inputs.channels:
            got, overrun, refused = channel.counters()
            received, overruns, rejected = received + got, overruns + overrun, rejected + refused
        window: ReorderWindow[Any] | None = getattr(self, "_window", None)
        probes = sum(channel.probe is not None for channel in self._inputs.channels)
        processed, dropped, failed = self._tally.counts()
        return Counters(
            received=received - probes,
            processed=processed,
            dropped=dropped,
            failed=failed,
            published=self._output.published,
            duplicates=self._tally.duplicates + (window.duplicates if window else 0),
            late=window.late if window else 0,
            bytes_received=(received - probes) * self._frame_bytes(),
            queued=self._loop.queued,
            server_overruns=overruns,
            receiver_rejected=rejected,
            busy_s=self._work.busy_s,
        )

    def _frame_bytes(self) -> int:
        """Payload of one frame, taken from the probe: all frames of a stream have one size as a rule."""
        channels = self._inputs.channels
        probe = channels[0].probe if channels else None
        return 0 if probe is None else payload_bytes(probe)


def at_home(duty: RankDuty, run_dir: Path) -> RankDuty:
    """The duty with its files where they are here: far away they came along with the run directory."""
    brought = run_dir / BASE
    return structs.replace(duty, base=str(brought)) if brought.is_dir() else duty


def _place(arguments: Any) -> Place:
    import socket

    return Place(
        rank=arguments.rank,
        size=arguments.size,
        node=socket.gethostname(),
        node_index=arguments.node_index,
        nodes=arguments.nodes,
        local_rank=arguments.local_rank,
        local_size=arguments.local_size,
        gpu=given_gpu(os.environ)[0],
    )


def _whereabouts(ground: Ground, place: Place, placed_by: Any) -> Whereabouts:
    own = ground.whereabouts()
    return Whereabouts(
        host=own.host,
        pid=own.pid,
        address=own.address,
        port=own.port,
        node=place.node,
        node_index=place.node_index,
        nodes=place.nodes,
        local_rank=place.local_rank,
        local_size=place.local_size,
        size=place.size,
        placed_by=placed_by,
        gpu=place.gpu,
        gpu_name=given_gpu(os.environ)[1],
        cpus=bound_cpus(),
    )


def main() -> None:
    """Entry point of the process."""
    parser = member_parser(__doc__ or "")
    parser.add_argument("--pool", required=True)
    for number in ("rank", "size", "node-index", "nodes", "local-rank", "local-size"):
        parser.add_argument(f"--{number}", type=int, required=True)
    parser.add_argument("--placed-by", choices=("arguments", "mpi"), default="arguments")
    parser.add_argument("--understudy", type=int, help="wait for a generation on this file descriptor")
    arguments = parser.parse_args()
    keep_freed_memory()
    if arguments.understudy is not None:
        die_with_parent(arguments.parent)
        generation = wait_for_cue(arguments.understudy)
        if generation is None:
            leave(EXIT_DONE)
        arguments.generation = generation
    ground = prepare(arguments, lambda join: join.node_interfaces, far=True)
    identity = MemberId(
        kind="rank", pool=arguments.pool, rank=arguments.rank, generation=arguments.generation
    )

    def body(member: Member) -> int:
        import pvaccess

        server = pvaccess.PvaServer()
        ground.check_port()
        place = _place(arguments)
        welcome = member.register(_whereabouts(ground, place, arguments.placed_by))
        assert welcome.duty is not None
        try:
            rank = Rank(member, at_home(welcome.duty, ground.run_dir), place, server)
        except BeamcastError:
            with member:
                raise
        with member.live(collect=rank.collect, obey=rank.obey):
            rank.run()
        return EXIT_FAILED if member.abandoned or member.given_up else EXIT_DONE

    leave(run_member(ground, identity, body))


if __name__ == "__main__":
    main()
