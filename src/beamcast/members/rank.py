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
from beamcast.core.keyset import decode_keys
from beamcast.core.place import Place
from beamcast.members.hardware import bound_cpus, given_gpu
from beamcast.members.host.exits import EXIT_DONE, EXIT_FAILED
from beamcast.members.host.understudy import wait_for_cue
from beamcast.members.join import BASE
from beamcast.members.member import Member, Report
from beamcast.members.parent import die_with_parent
from beamcast.members.rank_parts import RankParts
from beamcast.members.rank_report import RankReport
from beamcast.members.setup import Ground, leave, member_parser, prepare, run_member
from beamcast.pools.collector import CollectorLoop
from beamcast.pools.inputs import SOME_AFTER_S, id_field_of, look_at, payload_bytes
from beamcast.pools.memory import keep_freed_memory
from beamcast.pools.processor import Context
from beamcast.pools.rank_pvs import RankPvs
from beamcast.pools.stacked import first_frame
from beamcast.pva.fields import id_reader
from beamcast.pva.messages import (
    CommandAnswer,
    CommandOrder,
    Input,
    MemberId,
    Orders,
    RankDuty,
    Whereabouts,
)

logger = logging.getLogger(__name__)

DRAINED_QUIET_S = 0.4
# A rank that takes another's place does not wait longer for metadata: who joins them may just be dead.
METADATA_AFTER_S = 2.0


class Rank:
    """Ties the frame loop of one rank to the run: what it reports and how it obeys."""

    def __init__(self, member: Member, duty: RankDuty, place: Place, server: Any) -> None:
        self._member = member
        self._duty = duty
        self._place = place
        self._appear_timeout_s = float(duty.source.appear_timeout)
        self._to_probe: tuple[Input, ...] | None = None
        self._last_inputs: tuple[Input, ...] | None = None
        self._parts = parts = RankParts(member, duty, server)
        self._steering = parts.steering
        self._reported = RankReport(parts)
        self._answers: deque[CommandAnswer] = deque()
        self._asked = 0
        self._looked: int | None = None
        self._pvs = RankPvs(
            server,
            duty,
            parts.steering,
            parts.processor,
            counters=self._reported.counters,
            leave=parts.inputs.leave,
            queued=lambda: parts.loop.queued,
            configured=self._configured_by_client,
        )

    def run(self) -> None:
        """From the first order to the last frame."""
        parts = self._parts
        parts.processor.start(self._context())
        if self._duty.configured:
            parts.processor.configure(parse_command("configure", self._duty.configured).values)
        try:
            if self._serve() and self._connect():
                self._member.now("ready")
                if parts.acks is not None:
                    parts.acks.start()
                parts.loop.run()
        finally:
            if parts.acks is not None:
                parts.acks.stop()
            parts.processor.stop()
            parts.close()

    def _serve(self) -> bool:
        """Look at the input, make the output channel like it. False when told to stop before."""
        parts, steering = self._parts, self._steering
        while self._to_probe is None:
            if steering.stop:
                return False
            time.sleep(0.005)
        channel, *others = (each.channel for each in self._to_probe)
        # The ranks of a pool have outputs of one structure; just now the first may be dead.
        alike = isinstance(parts.loop, CollectorLoop) and not parts.gatherer
        others = others if self._begins_late and alike else []
        probe = look_at(channel, *others, timeout_s=self._appear_timeout_s, should_stop=lambda: steering.stop)
        if probe is None:
            return False
        id_field = id_field_of(probe, parts.id_fields, channel=channel)
        self._looked = int(id_reader(probe, id_field)(probe))
        self._size_queues(payload_bytes(probe))
        if parts.stacked:
            probe = first_frame(probe, id_field=id_field)
        record = parts.output.open(probe if parts.opener is None else parts.opener.look(probe))
        if parts.pusher is not None and not parts.pusher.open(record):
            return False
        self._member.serves = (
            *parts.output.channels,
            self._duty.status_channel,
            self._duty.control_channel,
        )
        self._member.now("serving")
        return True

    def _size_queues(self, frame_bytes: int) -> None:
        pool, parts = self._duty.pool, self._parts
        # What the dispatcher may have under way to a rank is bounded by the window.
        parts.inputs.size_queues(
            frame_bytes,
            receiver_bytes=pool.receiver_queue_bytes,
            server_bytes=None if parts.dispatched else pool.server_queue_bytes,
        )

    def _connect(self) -> bool:
        """Join the distribution and wait for the first updates. False when told to stop before."""
        parts, steering = self._parts, self._steering
        while steering.inputs is None:
            if steering.stop:
                return False
            time.sleep(0.005)
        if steering.released and isinstance(parts.loop, CollectorLoop):
            parts.loop.released_before(decode_keys(steering.released))
        # Metadata first: the row of every frame that is sent to this rank comes too.
        if parts.feed is not None and not parts.feed.connect(
            timeout_s=self._appear_timeout_s, without_after_s=METADATA_AFTER_S if self._begins_late else None
        ):
            return False
        parts.inputs.follow(steering.inputs)
        steering.inputs = None
        if not parts.inputs.wait_for_probes(
            timeout_s=self._appear_timeout_s,
            should_stop=lambda: steering.stop,
            news=self._news,
            some_after_s=SOME_AFTER_S if self._begins_late else None,
        ):
            return False
        if isinstance(parts.loop, CollectorLoop):
            parts.loop.start_producers()
        return True

    @property
    def _begins_late(self) -> bool:
        """Whether it takes another's place in a stream that flows, and so may not wait for ranks that are dead."""
        return self._member.identity.generation > 0

    def _news(self) -> tuple[Input, ...] | None:
        """The inputs of which the controller has told since the last call: one of them has another generation, say."""
        wanted, self._steering.inputs = self._steering.inputs, None
        return wanted

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
            self._parts.inputs.count_epochs()
        self._parts.inputs.begin_epoch(orders.epoch)
        self._member.epoch = max(self._member.epoch, orders.epoch)
        if orders.probe is not None:
            self._to_probe = orders.probe
        if orders.connect is not None and orders.connect != self._last_inputs:
            self._last_inputs = orders.connect
            self._steering.released = orders.released
            self._steering.inputs = orders.connect
        for order in orders.commands:
            self._carry_out(order)
        self._steering.drain = orders.drain
        if orders.stop:
            self._steering.stop = True

    def collect(self) -> Report:
        """What has happened since the last heartbeat; runs on the heartbeat thread."""
        parts, reported = self._parts, self._reported
        if parts.acks is None:
            delta, failed_frames = parts.tally.take()
        else:
            delta, failed_frames = parts.tally.report(**parts.acks.take())
        counters = reported.counters()
        if self._duty.pool.role == "collector":
            delta = structs.replace(delta, gathered=reported.gathered())
        if self._member.state in ("ready", "drained"):
            drained = self._steering.drain and not reported.waiting
            self._member.now("drained" if drained and parts.loop.quiet_for() > DRAINED_QUIET_S else "ready")
        stuck_s = parts.tally.stuck_s(time.monotonic())
        if self._member.serves:
            self._pvs.update(counters, stuck_s=stuck_s, last_id=reported.last_id())
        return Report(
            delta=delta,
            counters=counters,
            failed_frames=failed_frames,
            follows=parts.inputs.follows(),
            last_key=parts.tally.current,
            looked=self._looked,
            reached=reported.reached(),
            answers=self._take_answers(),
            facts={"stuck_s": round(stuck_s, 3), **reported.facts()},
        )


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
    parser.add_argument("--before", type=int, help="exit status of the process before this one")
    arguments = parser.parse_args()
    keep_freed_memory()
    if arguments.understudy is not None:
        die_with_parent(arguments.parent)
        cue = wait_for_cue(arguments.understudy)
        if cue is None:
            leave(EXIT_DONE)
        assert cue is not None
        arguments.generation, arguments.before = cue
    ground = prepare(arguments, lambda join: join.node_interfaces, far=True)
    identity = MemberId(
        kind="rank", pool=arguments.pool, rank=arguments.rank, generation=arguments.generation
    )

    def body(member: Member) -> int:
        import pvaccess

        server = pvaccess.PvaServer()
        ground.check_port()
        place = _place(arguments)
        member.before = arguments.before
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
