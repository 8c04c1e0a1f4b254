"""The run controller: starts everything, waits for `ready`, lets the stream begin, watches, drains, ends.

One thread decides (`tick`), the pvAccess thread that brings heartbeats takes the same lock. What it starts it ends:
members get the order to stop, then SIGTERM, then SIGKILL, and they die with it in any case.
"""

import logging
import platform
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec
from msgspec import structs

import beamcast
from beamcast.config.site import LocalProvider
from beamcast.config.units import enc_hook
from beamcast.core.errors import BeamcastError, UsageError, WorldError
from beamcast.core.keyset import encode_keys
from beamcast.core.lifecycle import RankState, RunEvent, RunLifecycle, RunState
from beamcast.launch.accounts import Accounts
from beamcast.launch.allocations import Allocation, Allocations, RankKey
from beamcast.launch.children import Children
from beamcast.launch.control_desk import ControlDesk
from beamcast.launch.directory import Directory, PortLeases, find_sides, serve_pvs, serve_rpc
from beamcast.launch.fates import Fate
from beamcast.launch.hardware import shares
from beamcast.launch.job_watch import JobWatch, ThisMachine, scheduler_of
from beamcast.launch.lease import RunLease
from beamcast.launch.network import Sides, served_ports
from beamcast.launch.plan import RunPlan
from beamcast.launch.roster import MemberRecord, Roster
from beamcast.launch.run_pvs import RunPvs
from beamcast.launch.rundir import RunDir
from beamcast.launch.scaling import check_scale, enlarged
from beamcast.launch.starter import Starter, make_starter
from beamcast.launch.statefile import StateFile
from beamcast.launch.stop_request import take_request
from beamcast.launch.walltime import Handover, Step, ends_at, next_generations, next_step
from beamcast.members.join import Join, write_join
from beamcast.observe.report import Report, encode_report, write_report
from beamcast.pva.messages import (
    Answer,
    Control,
    ControlQuestion,
    Heartbeat,
    Orders,
    Question,
    Registration,
    Reply,
    Request,
    Scale,
    Scaled,
    Welcome,
    encode_dispatch_plan,
    encode_metadata_plan,
)
from beamcast.pva.nameserver import Endpoint
from beamcast.pva.rpc import RpcEndpoint
from beamcast.security.secret import RunSecret

logger = logging.getLogger(__name__)

# What a look at everything costs grows with the ranks: some milliseconds for a thousand of them.
TICK_S, TICK_S_PER_MEMBER = 0.05, 0.0001
STATUS_PERIOD_S, STATUS_PERIOD_S_PER_MEMBER = 0.5, 0.0005
# How long members may take to end after the order to stop, before they are ended.
STOP_DEADLINE_S = 10.0
# While draining, a ledger that has not changed for this long, with nothing waiting anywhere, does not change any more.
SETTLED_S = 2.0
# A member that has no controller for this long ends itself.
CONTROLLER_SILENCE_S = 30.0
LOG_TAIL_LINES = 15
# Two heartbeats that did not come from anybody in an allocation are no accident.
HEARTBEATS_MISSED = 2
# The ends of an allocation's workers come within moments; one more allocation is to be for all of them.
ALLOCATION_SETTLE_S = 1.0


class Controller:
    """One run. `run` does all of it and returns the final report."""

    def __init__(
        self,
        plan: RunPlan,
        run_dir: RunDir,
        *,
        watch: Callable[[Report], None],
        opened: Callable[[], None] = lambda: None,
    ) -> None:
        """`watch` gets a report twice a second; `opened` is called once the run directory is ours and made."""
        self._plan = plan
        self._dir = run_dir
        self._watch = watch
        self._opened = opened
        self._lease: RunLease | None = None
        self._state_file = StateFile(run_dir.state)
        self._lock = threading.RLock()
        self._roster = Roster(plan)
        self._tick_s = max(TICK_S, TICK_S_PER_MEMBER * len(self._roster.members))
        self._life = RunLifecycle()
        self._accounts: Accounts = Accounts.open(plan, run_dir.path)
        self._reason = ""
        self._error: BeamcastError | None = None
        self._children = Children(run_dir.path)
        self._allocations: Allocations | None = None
        self._starter: Starter | None = None
        self._replacements = plan.site.allocation.replacements
        self._without_allocation: list[MemberRecord] = []
        self._to_ask: list[dict[RankKey, int]] = []
        self._handover: Handover | None = None
        self._may_hand_over = True
        self._lost_at = 0.0
        self._stop_asked = 0
        self._last_source = (0, 0.0)
        self._name_server: Directory | None = None
        self._pvs: RunPvs | None = None
        self._sides: Sides | None = None
        self._interchange_port: int | None = None
        self._desk = ControlDesk(plan, self._roster, lock=self._lock, ask_stop=self.ask_stop)

    def ask_stop(self) -> None:
        """End the run: the first time the stream is drained, the second time everything stops at once."""
        self._stop_asked += 1

    @property
    def error(self) -> BeamcastError | None:
        """Why the run failed."""
        return self._error

    def run(self) -> Report:
        """From submission to the report. Raises what made it impossible to begin; failures later are in the
        report and in `error`."""
        with self._dir.own(self._plan.run) as self._lease:
            secret = self._dir.create(self._plan)
            self._opened()
            try:
                self._conduct(secret)
            except BeamcastError as error:
                # Who looks later, from elsewhere, has only what is in the run directory.
                self._fail(error)
                self._leave_report()
                raise
            return self._leave_report()

    def _leave_report(self) -> Report:
        report = self._report()
        assert self._lease is not None
        if not self._lease.lost:
            write_report(self._dir.report, report)
            self._dir.state.unlink(missing_ok=True)
        self._watch(report)
        return report

    def _conduct(self, secret: RunSecret) -> None:
        with ExitStack() as stack:
            self._open_network(stack, secret)
            stack.callback(self._children.end)
            self._start_children()
            self._start_results()
            assert self._sides is not None
            starter = make_starter(
                self._plan,
                self._dir.path,
                address=self._sides.cluster,
                reached=self._sides.reached,
                port=self._interchange_port,
            )
            stack.enter_context(starter)
            self._starter = starter
            site = self._plan.site
            scheduled = site.executor == "parsl" and not isinstance(site.provider, LocalProvider)
            asked = scheduler_of(site.provider) if scheduled else None
            self._allocations = Allocations(
                starter,
                stack.enter_context(JobWatch(asked or ThisMachine(starter.runs))),
                queued=scheduled,
                silence_s=HEARTBEATS_MISSED * float(self._plan.workflow.deadlines.heartbeat),
            )
            self._start_first()
            self._loop()
            self._desk.ended(f"the run is {self._life.state.value}")
            self._stop_members()

    def _start_first(self) -> None:
        """Ask for the first allocation and start all ranks there, as soon as it is given."""
        assert self._allocations is not None
        first = self._allocations.ask()
        with self._lock:
            if first.running_at is None:
                self._move(RunEvent.QUEUED)
            else:
                self._allocated(first.running_at)
        self._start_ranks(
            first, {(pool.name, rank): 0 for pool in self._plan.pools for rank in range(pool.ranks)}
        )

    def _start_ranks(self, allocation: Allocation, generations: dict[RankKey, int]) -> None:
        assert self._allocations is not None
        with self._lock:
            self._allocations.seat(allocation, generations)
            self._allocations.start(allocation, generations, self._start_ended)

    # -- network ---------------------------------------------------------------------------------------------------

    def _open_network(self, stack: ExitStack, secret: RunSecret) -> None:
        network = self._plan.site.network
        sides, leases = find_sides(network), PortLeases(served_ports(network))
        self._sides = sides
        self._name_server = stack.enter_context(Directory(sides, leases))
        names = str(self._name_server.endpoint)
        if network.forwarder is not None:
            # Parsl binds it later than our members bind theirs. Without a forwarder it takes any that is free.
            self._interchange_port = leases.lease(sides.cluster).port
        join = Join(
            run=self._plan.run,
            prefix=self._plan.prefix,
            name_server=names,
            far_name_server=str(self._name_server.far_endpoint),
            first_port=network.ports.first,
            last_port=network.ports.last,
            served_ports=(served_ports(network).first, served_ports(network).last),
            promised_ports=() if self._interchange_port is None else (self._interchange_port,),
            node_interfaces=network.nodes.interfaces,
            beamline_interfaces=network.beamline.interfaces,
            cluster_interfaces=network.cluster.interfaces,
            controller_silence_s=CONTROLLER_SILENCE_S,
            hardware=shares(self._plan.site.node, self._plan.pools),
        )
        write_join(self._dir.path, join)
        server, pvs = leases.serve(
            sides.beamline, lambda at: serve_pvs(at, names), lambda server: server.stop()
        )
        stack.callback(server.stop)
        self._pvs = RunPvs(
            server, self._plan.prefix, [pool.name for pool in self._plan.pools], take=self._desk.take
        )
        commands, rpc = leases.serve(
            sides.cluster,
            lambda at: serve_rpc(
                at, names, RpcEndpoint(join.rpc_channel, secret=secret, handle=self._handle)
            ),
            lambda served: served.__exit__(None, None, None),
        )
        stack.callback(commands.__exit__, None, None, None)
        self._name_server.serve_at({join.rpc_channel: rpc, **dict.fromkeys(self._pvs.channels, pvs)})
        if self._plan.workflow.source.address is not None:
            self._name_server.serve_at(
                {self._plan.source_channel: Endpoint.parse(self._plan.workflow.source.address)}
            )
        elsewhere = [(each.channel, each.address) for each in self._plan.workflow.metadata]
        elsewhere += [
            (pool.forward.channel, pool.forward.address) for pool in self._plan.pools if pool.forward
        ]
        for channel, address in elsewhere:
            if address is not None:
                self._name_server.serve_at({channel: Endpoint.parse(address)})

    # -- members that run here -------------------------------------------------------------------------------------

    def _start_children(self) -> None:
        source = self._plan.workflow.source
        if source.simulate is not None:
            simulation = msgspec.json.encode(source.simulate, enc_hook=enc_hook).decode()
            simulated = [each.channel for each in self._plan.workflow.metadata if each.simulate]
            self._children.start("simulator", "simulator", f"--channel={source.channel}", f"--simulation={simulation}",
                        f"--base={self._plan.base}", *(f"--metadata={name}" for name in simulated))  # fmt: skip
        if source.mode != "monitor":
            fields = [f"--fields={msgspec.json.encode(source.fields).decode()}"] if source.fields else []
            rpc = [f"--rpc={source.channel}"] if source.mode == "rpc" else []
            self._children.start("intake", "intake", f"--record={self._plan.frames_channel}", *rpc, *fields)
        ours = source.simulate is not None or source.mode != "monitor"
        search = [] if ours or source.address is not None else ["--search"]
        self._start_metadata(search)
        if self._plan.dispatches:
            plan = encode_dispatch_plan(self._plan.dispatch_plan(self._dir.path))
            self._children.start("mirror", "dispatching", f"--plan={plan}", *search)
            return
        self._children.start("mirror", "mirror", "--kind=mirror", f"--channel={self._plan.mirror_channel}",
                    f"--source={self._plan.frames_channel}", f"--provider={source.protocol}",
                    f"--id-field={source.id_field}", f"--queue={self._plan.workflow.mirror.queue}",
                    f"--appear-timeout={float(source.appear_timeout)}", *search,
                    *(["--watch-source"] if self._plan.mirror_watches_source else []))  # fmt: skip

    def _start_metadata(self, search: list[str]) -> None:
        metadata = self._plan.workflow.metadata
        if not metadata:
            return
        if any(each.protocol == "pva" and not each.simulate and each.address is None for each in metadata):
            search = ["--search"]
        self._children.start(
            "metadata", "metadata", f"--plan={encode_metadata_plan(self._plan.metadata_plan())}", *search
        )

    def _start_results(self) -> None:
        """The result PVs re-serve the last pool's output; they wait for the order to look for it, or for its pushes."""
        results = self._plan.workflow.results
        if results is None:
            return
        ((source, channel),) = self._plan.results().items()
        told = [f"--dispatcher={self._plan.dispatcher}"] if self._plan.results_retire(results.pool) else []
        if self._plan.results_by == "push":
            self._children.start(
                "results", "pushed", f"--channel={channel}", f"--service={self._plan.push_channel}", *told
            )
            return
        common = [f"--channel={channel}", f"--queue={self._plan.workflow.mirror.queue}"]
        common += [f"--id-field={field}" for field in self._plan.result_id_fields()]
        common += [f"--appear-timeout={float(self._plan.workflow.source.appear_timeout)}"]
        if self._plan.results_by == "monitor":
            epochs = [] if self._plan.dispatches else ["--count-epochs"]
            self._children.start("results", "results", *common, *epochs, *told)
            return
        self._children.start("results", "mirror", "--kind=results", f"--source={source}", *common)

    def _start_ended(self, allocation: int, pool: str, rank: int | None, status: int | str) -> None:
        """Comes from a Parsl thread."""
        with self._lock:
            assert self._allocations is not None
            self._allocations.start_ended(allocation)
            for each in range(self._plan.pool(pool).ranks) if rank is None else [rank]:
                self._allocations.ended(allocation, (pool, each), status, at=time.monotonic())

    # -- messages --------------------------------------------------------------------------------------------------

    def _handle(self, request: Request) -> Answer:
        now = time.monotonic()
        with self._lock:
            match request:
                case Registration():
                    return self._register(request, now)
                case Heartbeat():
                    return self._heartbeat(request, now)
                case Question():
                    if request.what == "stop":
                        self.ask_stop()
                    return Reply(report=encode_report(self._report()))
                case Scale():
                    return self._scale(request)
                case Control() | ControlQuestion():
                    return self._desk.handle(request, now=now)
                case _:
                    raise TypeError(f"{type(request).__name__} is not for the controller")

    def _scale(self, request: Scale) -> Scaled:
        """Give a pool another size while frames flow."""
        pool, ranks = request.pool, request.ranks
        try:
            check_scale(self._plan, pool, ranks)
        except UsageError as refusal:
            return Scaled(refused=str(refusal))
        if self._life.state is not RunState.STREAMING and self._life.state is not RunState.READY:
            return Scaled(
                refused=f"the run is {self._life.state}: it can be scaled while it is ready or streaming"
            )
        if self._roster.still_leaving(pool) and ranks > sum(
            not one.leaving for one in self._roster.ranks[pool]
        ):
            return Scaled(refused=f"ranks of pool {pool} are still leaving; try again in a moment")
        self._plan = self._accounts.plan = enlarged(self._plan, pool, ranks)
        self._accounts.ledger.extend(self._plan.shape(self._plan.pool(pool)))
        coming, leaving = self._roster.scale(self._plan, pool, ranks)
        self._desk.book.resize(pool, ranks)
        if coming:
            assert self._starter is not None
            names, room = sorted(coming), self._starter.room
            for part in (names[first : first + room] for first in range(0, len(names), room)):
                self._starter.extend(self._plan, part)
                self._to_ask.append({name: coming[name] for name in part})
        logger.info("pool %s: %d ranks from now on, %d come, %d leave", pool, ranks, len(coming), leaving)
        return Scaled(coming=len(coming), leaving=leaving)

    def _register(self, request: Registration, now: float) -> Answer:
        logger.info("%s registers from %s", request.member, request.whereabouts.host)
        record = self._roster.members.get(str(request.member))
        if record is not None and record.live and request.member.generation > record.identity.generation:
            self._died(record, now, f"replaced by generation {request.member.generation}")
        if request.member.kind == "rank" and self._allocations is not None:
            self._rank_comes((request.member.pool, request.member.rank), request.member.generation)
        welcome = self._roster.register(request, now=now)
        if isinstance(welcome, Welcome) and welcome.duty is not None:
            configured = self._desk.book.configured(str(request.member))
            welcome = structs.replace(welcome, duty=structs.replace(welcome.duty, configured=configured))
        return welcome

    def _rank_comes(self, key: RankKey, generation: int) -> None:
        assert self._allocations is not None
        self._allocations.returned(key)
        handover = self._handover
        if handover is None or handover.new is None or not handover.moves(key, generation):
            return
        self._allocations.seat(handover.new, [key])
        if handover.done:
            logger.info("all ranks have moved to allocation %d", handover.new.number)
            self._allocations.give_up({handover.old.number}, "was handed over")
            self._handover = None

    def _heartbeat(self, beat: Heartbeat, now: float) -> Answer:
        answer = self._roster.heartbeat(beat, now=now)
        if isinstance(answer, Orders) and self._needs_released(beat, answer):
            answer = structs.replace(answer, released=encode_keys(self._accounts.ledger.final_results()))
        record = self._roster.members.get(str(beat.member))
        self._desk.book.answered(str(beat.member), beat.answers)
        if isinstance(answer, Orders):
            answer = structs.replace(answer, commands=self._desk.book.orders(str(beat.member)))
        # What a rank did before it was given up is true all the same, so its ids count.
        if record is not None:
            self._accounts.enter(beat, now=now)
        if record is not None and record.whereabouts is not None and record.live:
            assert self._name_server is not None
            if record.serves:
                where = Endpoint(record.whereabouts.address, record.whereabouts.port)
                self._name_server.serve_at(dict.fromkeys(record.serves, where))
            if beat.rpc_channel:
                rpc = Endpoint(beat.rpc_address or record.whereabouts.address, beat.rpc_port)
                self._name_server.serve_at({beat.rpc_channel: rpc})
        return answer

    def _needs_released(self, beat: Heartbeat, orders: Orders) -> bool:
        """Whether it is about to begin in the place of another one, and has to know which results are out."""
        if beat.member.kind == "results":
            return beat.member.generation > 0 and beat.state == "registered"
        return orders.connect is not None and self._plan.retires(beat.member.pool)

    # -- the loop --------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        next_status = 0.0
        while not self._life.state.is_final and not self._roster.stop:
            time.sleep(self._tick_s)
            now = time.monotonic()
            assert self._pvs is not None
            self._pvs.look()
            with self._lock:
                try:
                    self._tick(now)
                except BeamcastError as error:
                    self._fail(error)
                report = self._report() if now >= next_status else None
            if self._to_ask:
                self._ask_more()
            self._ask_for_handover()
            if self._allocations is not None:
                self._allocations.release_given_up()
            if report is not None:
                next_status = now + max(
                    STATUS_PERIOD_S, STATUS_PERIOD_S_PER_MEMBER * len(self._roster.members)
                )
                self._show(report)
                self._take_stop_request()

    def _show(self, report: Report) -> None:
        assert self._pvs is not None
        self._pvs.update(report)
        self._state_file(report)
        self._watch(report)

    def _take_stop_request(self) -> None:
        """Hosts that can't reach us leave their request in the run directory."""
        request = take_request(self._dir.path)
        if request is not None:
            logger.info("%s (pid %d) asks to stop", request.host, request.pid)
            self._stop_asked += 2 if request.at_once else 1

    def _tick(self, now: float) -> None:
        assert self._lease is not None
        if self._lease.lost:
            raise WorldError(
                f"another controller has taken over {self._dir.path}: this one was taken for dead"
            )
        self._watch_members(now)
        self._desk.tick(now)
        self._accounts.check_failed()
        self._roster.next_epoch()
        if self._stop_asked > 1:
            self._cancel("stopped by the user, without draining")
            return
        if self._life.state in (RunState.READY, RunState.STREAMING):
            self._mind_walltime(now)
        match self._life.state:
            case RunState.QUEUED:
                self._queued(now)
            case RunState.STARTING:
                self._starting(now)
            case RunState.READY:
                self._ready(now)
            case RunState.STREAMING:
                self._streaming(now)
            case RunState.DRAINING:
                self._draining(now)

    def _mind_walltime(self, now: float) -> None:
        """Leave the allocation before it ends: by draining, or by moving to the next one."""
        assert self._allocations is not None
        config, allocations = self._plan.site.allocation, self._allocations
        if not allocations.queued:
            return
        self._check_handover()
        current = allocations.oldest_in_use
        heard = allocations.heard(current)
        end = ends_at(
            current,
            walltime_s=float(config.walltime),
            left_s=heard.word.time_left_s,
            asked_at=heard.asked_at,
        )
        waits = self._handover is not None
        match next_step(config, end=end, now=now, may_ask=self._may_hand_over, waits=waits):
            case Step.ASK:
                self._begin_handover(current)
            case Step.LEAVE:
                self._end_stream(now, f"the walltime of job {current.job} is about to end")

    def _check_handover(self) -> None:
        """The allocation to move to may end before anybody has come there."""
        handover, allocations = self._handover, self._allocations
        if handover is None or handover.new is None or allocations is None:
            return
        if not allocations.has_ended(handover.new):
            return
        why = f"job {handover.new.job}, to which the run was to be handed over, "
        why += allocations.heard(handover.new).word.why()
        if handover.moved or allocations.has_ended(handover.old):
            raise WorldError(why)
        logger.warning("%s", why)
        self._may_hand_over, self._handover = False, None

    def _begin_handover(self, old: Allocation) -> None:
        every = [record.identity for records in self._roster.ranks.values() for record in records]
        generations = next_generations(
            {(one.pool, one.rank): one.generation for one in every},
            {pool.name: pool.restart.max_restarts for pool in self._plan.pools},
        )
        logger.info("the walltime of job %s is about to end: the next allocation is asked for", old.job)
        self._handover = Handover(old=old, generations=generations)

    def _ask_for_handover(self) -> None:
        """As `_ask_more`, for the allocation that all ranks are to move to. Refused, the run drains in time."""
        handover, allocations = self._handover, self._allocations
        if handover is None or handover.new is not None or allocations is None:
            return
        try:
            new = allocations.ask()
        except WorldError as refusal:
            logger.warning("there is nothing to hand over to: %s", refusal)
            with self._lock:
                self._may_hand_over, self._handover = False, None
            return
        with self._lock:
            handover.new = new
            allocations.start(new, handover.generations, self._start_ended)

    def _queued(self, now: float) -> None:
        assert self._allocations is not None
        longest = self._plan.workflow.deadlines.queue
        if self._stop_asked:
            self._cancel("stopped by the user while it waited in the queue")
        elif self._allocations.latest.running_at is not None:
            self._allocated(now)
        elif longest is not None and now - self._allocations.latest.asked_at > float(longest):
            raise WorldError(f"no allocation within {float(longest):g} s ([deadlines] queue)")

    def _allocated(self, now: float) -> None:
        self._accounts.moments.allocated = now
        self._move(RunEvent.ALLOCATED)

    def _starting(self, now: float) -> None:
        if self._stop_asked:
            self._cancel("stopped by the user before it was ready")
        elif self._roster.all_ready():
            self._accounts.moments.ready = now
            self._roster.was_ready = True
            self._move(RunEvent.ALL_READY)
        elif now - self._start_began(now) > float(self._plan.workflow.deadlines.start):
            waiting = ", ".join(self._roster.waiting_for())
            raise WorldError(
                f"not ready within {float(self._plan.workflow.deadlines.start):g} s; still waiting for: {waiting}",
                hint=f"their logs are in {self._dir.logs}",
            )

    def _start_began(self, now: float) -> float:
        """Ranks that somebody else starts may wait in a queue that we don't know: their time begins with the first."""
        if self._plan.site.executor == "parsl":
            return self._accounts.moments.allocated or now
        return self._roster.first_rank_at or now

    def _ready(self, now: float) -> None:
        mirror = self._roster.members["mirror"]
        moments = self._accounts.moments
        if moments.started is None:
            # The mirror says which is the first frame of the run; only then may a simulator begin.
            self._roster.arm = True
            if mirror.counts_from is None:
                return
            self._accounts.ledger.count_from(mirror.counts_from)
            self._roster.start = True
            moments.started = now
        if self._accounts.ledger.seen() or self._simulator_done():
            self._move(RunEvent.FIRST_FRAME)
        elif self._stop_asked:
            self._end_stream(now, "stopped by the user")
        else:
            self._check_first_frame(now - moments.started)

    def _check_first_frame(self, waited_s: float) -> None:
        timeout = self._plan.workflow.source.first_frame_timeout
        if timeout is not None and waited_s > timeout:
            raise WorldError(
                f"no frame came from {self._plan.source_channel} within {timeout} after the run was ready",
                hint="is the detector acquiring? source.first_frame_timeout says how long to wait for it",
            )

    def _streaming(self, now: float) -> None:
        self._note_first_result(now)
        source = self._plan.workflow.source
        total = self._accounts.ledger.seen()
        if total != self._last_source[0]:
            self._last_source = (total, now)
        idle = now - (self._last_source[1] or now)
        if self._stop_asked:
            self._end_stream(now, "stopped by the user")
        elif self._simulator_done():
            self._end_stream(now, "all frames sent")
        elif source.idle_timeout is not None and idle > float(source.idle_timeout):
            self._end_stream(now, f"no frame for {float(source.idle_timeout):g} s")

    def _simulator_done(self) -> bool:
        simulator = self._roster.members.get("simulator")
        return simulator is not None and simulator.state == "drained"

    def _note_first_result(self, now: float) -> None:
        if self._accounts.moments.first_result is None and self._accounts.ledger.totals().collected:
            self._accounts.moments.first_result = now
            self._roster.had_result = True

    def _end_stream(self, now: float, reason: str) -> None:
        self._reason = reason
        self._accounts.moments.stream_end = now
        self._accounts.changed_at = now
        self._roster.drain = True
        self._move(RunEvent.END_OF_STREAM)

    def _draining(self, now: float) -> None:
        self._note_first_result(now)
        moments = self._accounts.moments
        assert moments.stream_end is not None
        simulator = self._roster.members.get("simulator")
        source_ended = simulator is None or simulator.state == "drained"
        # The simulator's last word may be one heartbeat younger than its last frame.
        heard = all(
            record.heard_at > moments.stream_end for record in self._roster.members.values() if record.live
        )
        quiet = self._roster.all_drained() and now - self._accounts.changed_at > SETTLED_S
        # Frames that the dispatcher holds are sent again some time, whether or not anything moves now.
        held = self._roster.members["mirror"].facts.get("held_frames", 0)
        settled = quiet and not held and not self._some_come_back()
        late = now - moments.stream_end > float(self._plan.workflow.deadlines.drain)
        if late:
            self._reason += "; the drain deadline passed"
        if late or (source_ended and heard and (self._accounts.ledger.is_whole() or settled)):
            moments.drained = now
            self._move(RunEvent.DRAINED)

    def _some_come_back(self) -> bool:
        """Whether dead members are being started again. That the others have nothing in hand says little then."""
        live = sum(record.live for ranks in self._roster.ranks.values() for record in ranks)
        starts = self._allocations.open_starts if self._allocations is not None else 0
        beside = any(self._comes_back(one) and not one.usable for one in self._roster.members.values())
        return beside or bool(self._without_allocation or self._to_ask) or starts > live

    # -- deaths and failures ---------------------------------------------------------------------------------------

    def _watch_members(self, now: float) -> None:
        silence = float(self._plan.workflow.deadlines.silence)
        for record in self._roster.silent(now=now, silence_s=silence):
            if self._comes_back(record):
                self._children.kill(str(record.identity))
                continue
            self._died(record, now, f"no heartbeat for {silence:g} s", only_silent=True)
            self._fell_silent(record, now)
        for name, code in self._children.ended():
            self._child_ended(self._roster.members[name], now, code)
        self._settle_ends(now)
        for record in self._roster.problems():
            self._member_failed(record)
        if self._without_allocation and now - self._lost_at > ALLOCATION_SETTLE_S:
            self._replace_allocation()

    def _fell_silent(self, record: MemberRecord, now: float) -> None:
        """Why is for the scheduler to say, if its starter does not."""
        if record.identity.kind == "rank" and self._allocations is not None:
            key = (record.identity.pool, record.identity.rank)
            self._allocations.ended(self._allocations.seat_of(key).number, key, None, at=now)

    def _comes_back(self, record: MemberRecord) -> bool:
        """Whether the member may be started again beside us: it leaves on disk what its successor has to know."""
        kind = record.identity.kind
        if kind == "results":
            return self._plan.results_by == "monitor"
        return kind == "mirror" and self._plan.dispatches

    def _child_ended(self, record: MemberRecord, now: float, status: int) -> None:
        if record.life.state in (RankState.DEAD, RankState.FINISHED, RankState.FAILED):
            return
        name, reason = str(record.identity), f"its process ended with status {status}"
        # pvaccess can abort while it connects for the first time; nothing is lost with a process so young.
        young = status < 0 and not self._roster.was_ready
        if not young and not (self._comes_back(record) and self._roster.was_ready):
            self._died(record, now, reason)
        generation = record.identity.generation + (not young)
        if not self._children.restart(name, generation=generation, now=now):
            self._died(record, now, f"{reason}, too often within a minute")
        logger.warning("the %s ended with status %d, started again", name, status)
        self._forget(record)
        self._roster.died(record, now=now, reason=reason)

    def _settle_ends(self, now: float) -> None:
        """What became of the ranks that have ended."""
        if self._allocations is None:
            return
        self._allocations.look(now=now, heard_at=self._roster.heard_at())
        if not self._allocations.unsettled:
            return
        every = [record for records in self._roster.ranks.values() for record in records]
        ranks = {(record.identity.pool, record.identity.rank): record for record in every}
        self._allocations.never_began(
            key for key, each in ranks.items() if not each.live and each.state != "finished"
        )
        hosts = {key: each.whereabouts.host for key, each in ranks.items() if each.whereabouts is not None}
        for key, fate in self._allocations.fates(hosts, now=now):
            self._start_is_over(ranks[key], now, fate)

    def _replace_allocation(self) -> None:
        """The ranks that have lost their allocation get another one, and so do those that sat beside them: a job that
        has lost a part of itself is about to end."""
        assert self._allocations is not None
        lost, self._without_allocation = self._without_allocation, []
        self._replacements -= 1
        for record in self._beside(lost):
            self._died(record, time.monotonic(), "its allocation is given up, since a part of it was lost")
            lost.append(record)
        logger.warning("another allocation is asked for, for %d ranks", len(lost))
        # One for one: the seats of those that sat together fit together.
        together: dict[int, dict[RankKey, int]] = {}
        for one in (each.identity for each in lost):
            seat = self._allocations.seat_of((one.pool, one.rank)).number
            together.setdefault(seat, {})[one.pool, one.rank] = one.generation + 1
        self._to_ask.extend(together.values())

    def _beside(self, lost: list[MemberRecord]) -> list[MemberRecord]:
        """The other ranks of the same allocations, which are given up."""
        assert self._allocations is not None
        keys = [(record.identity.pool, record.identity.rank) for record in lost]
        beside = self._allocations.give_up({self._allocations.seat_of(key).number for key in keys})
        records = [self._roster.ranks[pool][rank] for pool, rank in beside if (pool, rank) not in keys]
        return [record for record in records if record.state != "finished"]

    def _ask_more(self) -> None:
        """Ask for the allocations that are wanted. Takes seconds, so not under the lock: heartbeats go on."""
        assert self._allocations is not None
        while self._to_ask:
            try:
                self._start_ranks(self._allocations.ask(), self._to_ask[0])
            except BeamcastError as error:
                with self._lock:
                    self._fail(error)
                return
            del self._to_ask[0]

    def _start_is_over(self, record: MemberRecord, now: float, fate: Fate) -> None:
        if record.life.state.value in ("finished", "failed") or record.leaving:
            return
        if fate.allocation_lost:
            self._allocation_lost(record, now, fate)
            return
        self._died(record, now, f"its process ended ({fate.why}) and is not restarted again")
        if self._ends_run(record):
            raise WorldError(
                f"rank {record.identity} died and is not restarted again: {fate.why}{self._log_tail(record)}",
                hint=f"its log is {self._log_of(record)}",
            )

    def _ends_run(self, record: MemberRecord) -> bool:
        pool = self._plan.pool(record.identity.pool)
        return pool.restart.on_exhausted == "fail-run" or not self._roster.was_ready

    def _allocation_lost(self, record: MemberRecord, now: float, fate: Fate) -> None:
        """Its rank gets another one, if there is one left to ask for."""
        assert self._allocations is not None
        allocation = self._allocations.seat_of((record.identity.pool, record.identity.rank))
        self._died(record, now, f"its allocation is gone: {fate.why}")
        if self._handover is not None and allocation is self._handover.old:
            return  # it is to come again in the next allocation, whenever that begins
        if self._replacements or self._without_allocation:
            self._without_allocation.append(record)
            self._lost_at = now
            return
        if self._ends_run(record):
            said = self._allocations.complaint(allocation)
            raise WorldError(
                f"rank {record.identity} died with its allocation: {fate.why}"
                + (f"\n{said}" if said else ""),
                hint="`replacements` under [allocation] in the site file asks for another one",
            )

    def _died(self, record: MemberRecord, now: float, reason: str, *, only_silent: bool = False) -> None:
        logger.warning("%s died: %s", record.identity, reason)
        self._forget(record)
        self._roster.died(record, now=now, reason=reason, only_silent=only_silent)
        if record.identity.kind != "rank":
            raise WorldError(
                f"the {record.identity} died: {reason}{self._log_tail(record)}",
                hint=f"its log is {self._log_of(record)}",
            )

    def _forget(self, record: MemberRecord) -> None:
        """Nobody shall be sent to where it was: a client that tried in vain waits long before it asks again."""
        assert self._name_server is not None
        self._name_server.forget(list(record.serves))

    def _member_failed(self, record: MemberRecord) -> None:
        message = f"{record.identity}: {record.problem}"
        log = f"its log is {self._log_of(record)}"
        error: BeamcastError
        error = (
            UsageError(message, hint=log) if record.problem_kind == "usage" else WorldError(message, hint=log)
        )
        if record.problem_detail:
            error.add_note(record.problem_detail)
        raise error

    def _log_of(self, record: MemberRecord) -> Path:
        return self._dir.logs / f"{str(record.identity).replace('/', '-')}.log"

    def _log_tail(self, record: MemberRecord) -> str:
        try:
            lines = self._log_of(record).read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        except OSError:
            return ""
        return "\n  " + "\n  ".join(lines) if lines else ""

    def _fail(self, error: BeamcastError) -> None:
        if self._life.state.is_final:
            return
        self._error = error
        self._reason = str(error)
        logger.error("the run fails: %s", error)
        moments = self._accounts.moments
        if moments.started is not None and moments.stream_end is None:
            moments.stream_end = time.monotonic()  # the report names what was under way
        self._life.on(RunEvent.FAIL, at=time.monotonic(), reason=self._reason)

    def _cancel(self, reason: str) -> None:
        self._reason = reason
        self._life.on(RunEvent.CANCEL, at=time.monotonic(), reason=reason)

    def _move(self, event: RunEvent) -> None:
        state = self._life.on(event, at=time.monotonic())
        logger.info("run %s is %s", self._plan.run, state)

    # -- the end ---------------------------------------------------------------------------------------------------

    def _stop_members(self) -> None:
        """The order to stop, and time to obey it; what is still there then is ended by its starter."""
        with self._lock:
            self._roster.stop = True
        deadline = time.monotonic() + STOP_DEADLINE_S
        while time.monotonic() < deadline:
            with self._lock:
                silent = self._roster.silent(now=time.monotonic(), silence_s=self._roster.longest_silence_s())
                for record in silent:
                    self._roster.died(record, now=time.monotonic(), reason="did not end")
                open_starts = self._allocations.open_starts if self._allocations is not None else 0
                if self._roster.all_gone() and open_starts <= 0:
                    return
            time.sleep(TICK_S)

    def _report(self) -> Report:
        with self._lock:
            report = self._accounts.report(
                self._roster,
                state=self._life.state.value,
                reason=self._reason,
                name_server=str(self._name_server.endpoint) if self._name_server is not None else "",
                versions=_versions(),
            )
            if self._allocations is None:
                return report
            return structs.replace(report, allocations=self._allocations.report(now=time.monotonic()))


def _versions() -> dict[str, str]:
    import parsl
    import pvaccess

    return {
        "beamcast": beamcast.__version__,
        "python": platform.python_version(),
        "pvapy": str(pvaccess.__version__),
        "parsl": str(parsl.__version__),
    }
