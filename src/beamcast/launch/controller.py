"""The run controller: starts everything, waits for `ready`, lets the stream begin, watches, drains, ends.

One thread decides (`tick`), the pvAccess thread that brings heartbeats takes the same lock. What it starts it ends:
members get the order to stop, then SIGTERM, then SIGKILL, and they die with it in any case.
"""

import logging
import platform
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

import beamcast
from beamcast.config.site import LocalProvider, WorkersStart
from beamcast.config.units import enc_hook
from beamcast.core.errors import BeamcastError, UsageError, WorldError
from beamcast.core.keyset import encode_keys
from beamcast.core.lifecycle import RankState, RunEvent, RunLifecycle, RunState
from beamcast.launch.accounts import Accounts
from beamcast.launch.control_desk import ControlDesk
from beamcast.launch.directory import Directory, PortLeases, find_sides, serve_pvs, serve_rpc
from beamcast.launch.doubt import ASK_AGAIN_LOCAL_S, ASK_AGAIN_S, HEARTBEATS_MISSED, Doubts
from beamcast.launch.hardware import shares
from beamcast.launch.lease import RunLease
from beamcast.launch.network import Sides, served_ports
from beamcast.launch.plan import RunPlan
from beamcast.launch.roster import MemberRecord, Roster
from beamcast.launch.run_pvs import RunPvs
from beamcast.launch.rundir import RunDir
from beamcast.launch.starter import Starter, make_starter
from beamcast.launch.statefile import StateFile
from beamcast.launch.stop_request import take_request
from beamcast.members.child import end_member, start_member
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
# The ends of an allocation's workers come within moments; one more allocation is to be for all of them.
ALLOCATION_SETTLE_S = 1.0
CHILD_RESTARTS = 3


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
        self._children: dict[str, subprocess.Popen[Any]] = {}
        self._starts: dict[str, list[Callable[[], subprocess.Popen[Any]]]] = {}
        self._ended_starts: dict[tuple[str, int | None], int | str] = {}
        self._open_starts = 0
        self._starter: Starter | None = None
        self._doubts: Doubts | None = None
        self._replacements = plan.site.allocation.replacements
        self._without_allocation: list[MemberRecord] = []
        self._lost_at = 0.0
        self._stop_asked = 0
        self._last_source = (0, 0.0)
        self._name_server: Directory | None = None
        self._pvs: RunPvs | None = None
        self._sides: Sides | None = None
        self._interchange_port = 0
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
            stack.callback(self._end_children)
            self._start_children()
            self._start_results()
            assert self._sides is not None
            self._starter = starter = make_starter(
                self._plan,
                self._dir.path,
                address=self._sides.cluster,
                reached=self._sides.reached,
                port=self._interchange_port,
            )
            stack.enter_context(starter)
            self._doubts = stack.enter_context(self._doubtful(starter))
            self._move(RunEvent.ALLOCATED)
            starts = starter.start(self._start_ended)
            with self._lock:
                self._open_starts += starts
            self._loop()
            self._desk.ended(f"the run is {self._life.state.value}")
            self._stop_members()

    def _doubtful(self, starter: Starter) -> Doubts:
        local = isinstance(self._plan.site.provider, LocalProvider)
        return Doubts(
            starter.ask_about,
            silence_s=HEARTBEATS_MISSED * float(self._plan.workflow.deadlines.heartbeat),
            again_s=ASK_AGAIN_LOCAL_S if local else ASK_AGAIN_S,
        )

    # -- network ---------------------------------------------------------------------------------------------------

    def _open_network(self, stack: ExitStack, secret: RunSecret) -> None:
        network = self._plan.site.network
        sides, leases = find_sides(network), PortLeases(served_ports(network))
        self._sides = sides
        self._name_server = stack.enter_context(Directory(sides, leases))
        names = str(self._name_server.endpoint)
        join = Join(
            run=self._plan.run,
            prefix=self._plan.prefix,
            name_server=names,
            far_name_server=str(self._name_server.far_endpoint),
            first_port=network.ports.first,
            last_port=network.ports.last,
            served_ports=(served_ports(network).first, served_ports(network).last),
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
        self._interchange_port = leases.lease(sides.cluster).port
        self._name_server.serve_at({join.rpc_channel: rpc, **dict.fromkeys(self._pvs.channels, pvs)})
        if self._plan.workflow.source.address is not None:
            self._name_server.serve_at(
                {self._plan.source_channel: Endpoint.parse(self._plan.workflow.source.address)}
            )
        for each in self._plan.workflow.metadata:
            if each.address is not None:
                self._name_server.serve_at({each.channel: Endpoint.parse(each.address)})

    # -- members that run here -------------------------------------------------------------------------------------

    def _start_children(self) -> None:
        source = self._plan.workflow.source
        if source.simulate is not None:
            simulation = msgspec.json.encode(source.simulate, enc_hook=enc_hook).decode()
            simulated = [each.channel for each in self._plan.workflow.metadata if each.simulate]
            self._child("simulator", "simulator", f"--channel={source.channel}", f"--simulation={simulation}",
                        f"--base={self._plan.base}", *(f"--metadata={name}" for name in simulated))  # fmt: skip
        search = [] if source.simulate is not None or source.address is not None else ["--search"]
        self._start_metadata(search)
        if self._plan.dispatches:
            plan = encode_dispatch_plan(self._plan.dispatch_plan(self._dir.path))
            self._child("mirror", "dispatching", f"--plan={plan}", *search)
            return
        self._child("mirror", "mirror", "--kind=mirror", f"--channel={self._plan.mirror_channel}",
                    f"--source={source.channel}", f"--provider={source.protocol}", f"--id-field={source.id_field}",
                    f"--queue={self._plan.workflow.mirror.queue}",
                    f"--appear-timeout={float(source.appear_timeout)}", *search,
                    *(["--watch-source"] if self._plan.mirror_watches_source else []))  # fmt: skip

    def _start_metadata(self, search: list[str]) -> None:
        metadata = self._plan.workflow.metadata
        if not metadata:
            return
        if any(each.protocol == "pva" and not each.simulate and each.address is None for each in metadata):
            search = ["--search"]
        self._child(
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
            self._child(
                "results", "pushed", f"--channel={channel}", f"--service={self._plan.push_channel}", *told
            )
            return
        common = [f"--channel={channel}", f"--queue={self._plan.workflow.mirror.queue}"]
        common += [f"--id-field={field}" for field in self._plan.result_id_fields()]
        common += [f"--appear-timeout={float(self._plan.workflow.source.appear_timeout)}"]
        if self._plan.results_by == "monitor":
            epochs = [] if self._plan.dispatches else ["--count-epochs"]
            self._child("results", "results", *common, *epochs, *told)
            return
        self._child("results", "mirror", "--kind=results", f"--source={source}", *common)

    def _child(self, name: str, module: str, *arguments: str) -> None:
        def start() -> "subprocess.Popen[Any]":
            return start_member(module, run_dir=self._dir.path, name=name, arguments=arguments)

        self._children[name] = start()
        self._starts[name] = [start] * CHILD_RESTARTS

    def _end_children(self) -> None:
        for process in self._children.values():
            end_member(process)

    def _start_ended(self, pool: str, rank: int | None, status: int | str) -> None:
        with self._lock:
            self._ended_starts[(pool, rank)] = status
            self._open_starts -= 1

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
                case Control() | ControlQuestion():
                    return self._desk.handle(request, now=now)
                case _:
                    raise TypeError(f"{type(request).__name__} is not for the controller")

    def _register(self, request: Registration, now: float) -> Answer:
        logger.info("%s registers from %s", request.member, request.whereabouts.host)
        record = self._roster.members.get(str(request.member))
        if record is not None and record.live and request.member.generation > record.identity.generation:
            self._died(record, now, f"replaced by generation {request.member.generation}")
        welcome = self._roster.register(request, now=now)
        if isinstance(welcome, Welcome) and welcome.duty is not None:
            configured = self._desk.book.configured(str(request.member))
            welcome = structs.replace(welcome, duty=structs.replace(welcome.duty, configured=configured))
        return welcome

    def _heartbeat(self, beat: Heartbeat, now: float) -> Answer:
        answer = self._roster.heartbeat(beat, now=now)
        if isinstance(answer, Orders) and answer.connect is not None and self._plan.retires(beat.member.pool):
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
        match self._life.state:
            case RunState.STARTING:
                self._starting(now)
            case RunState.READY:
                self._ready(now)
            case RunState.STREAMING:
                self._streaming(now)
            case RunState.DRAINING:
                self._draining(now)

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
            return self._accounts.moments.submitted
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
        settled = quiet and not self._ranks_come_back()
        late = now - moments.stream_end > float(self._plan.workflow.deadlines.drain)
        if late:
            self._reason += "; the drain deadline passed"
        if late or (source_ended and heard and (self._accounts.ledger.is_whole() or settled)):
            moments.drained = now
            self._move(RunEvent.DRAINED)

    def _ranks_come_back(self) -> bool:
        """Whether dead ranks are being started again. Those that live have nothing in hand then, which says little."""
        live = sum(record.live for ranks in self._roster.ranks.values() for record in ranks)
        return bool(self._without_allocation) or self._open_starts > live

    # -- deaths and failures ---------------------------------------------------------------------------------------

    def _watch_members(self, now: float) -> None:
        silence = float(self._plan.workflow.deadlines.silence)
        for record in self._roster.silent(now=now, silence_s=silence):
            self._died(record, now, f"no heartbeat for {silence:g} s", only_silent=True)
        for name, process in tuple(self._children.items()):
            record = self._roster.members[name]
            unheard = record.life.state is RankState.EXPECTED
            if process.poll() is not None and process.returncode < 0 and unheard and self._starts[name]:
                # pvaccess can abort while it connects for the first time; nothing is lost with a process so young.
                logger.warning("the %s ended with status %d, started again", name, process.returncode)
                self._children[name] = self._starts[name].pop()()
            elif process.poll() is not None and record.life.state.value not in ("dead", "finished", "failed"):
                self._died(record, now, f"its process ended with status {process.returncode}")
        ended, self._ended_starts = self._ended_starts, {}
        for (pool, rank), status in ended.items():
            ranks = self._roster.ranks[pool] if rank is None else [self._roster.ranks[pool][rank]]
            for record in ranks:
                self._start_is_over(record, now, status)
        self._look_for_ended_allocations(now)
        for record in self._roster.problems():
            self._member_failed(record)
        if self._without_allocation and now - self._lost_at > ALLOCATION_SETTLE_S:
            self._replace_allocation()

    def _look_for_ended_allocations(self, now: float) -> None:
        """Where all ranks of one are silent, its scheduler may know more."""
        if self._starter is None or self._doubts is None:
            return
        heard_at = self._roster.heard_at()
        for block, how in self._doubts.look(self._starter.allocations(), heard_at, now=now).items():
            lost = self._starter.give_up(block)
            self._open_starts -= len(lost)
            for pool, rank in sorted(lost):
                self._start_is_over(self._roster.ranks[pool][rank], now, how)
            # Nobody else of it is to be waited for.
            self._lost_at = now - ALLOCATION_SETTLE_S - TICK_S

    def _replace_allocation(self) -> None:
        """The ranks that have lost their allocation get another one."""
        lost, self._without_allocation = self._without_allocation, []
        self._replacements -= 1
        logger.warning("another allocation is asked for, for %d ranks", len(lost))
        assert self._starter is not None
        generations = {(one.pool, one.rank): one.generation + 1 for one in (each.identity for each in lost)}
        self._open_starts += self._starter.replace(generations, self._start_ended)

    def _start_is_over(self, record: MemberRecord, now: float, status: int | str) -> None:
        if record.life.state.value in ("finished", "failed"):
            return
        # A rank that ends has an exit status; words come from Parsl, which has lost its worker.
        if isinstance(status, str) and self._replacements and isinstance(self._plan.site.start, WorkersStart):
            self._died(record, now, f"its allocation is gone: {status}")
            self._without_allocation.append(record)
            self._lost_at = now
            return
        self._died(record, now, f"its process ended ({status}) and is not restarted again")
        pool = self._plan.pool(record.identity.pool)
        if pool.restart.on_exhausted == "fail-run" or not self._roster.was_ready:
            raise WorldError(
                f"rank {record.identity} died and is not restarted again: {status}{self._log_tail(record)}",
                hint=f"its log is {self._log_of(record)}",
            )

    def _died(self, record: MemberRecord, now: float, reason: str, *, only_silent: bool = False) -> None:
        logger.warning("%s died: %s", record.identity, reason)
        # Nobody shall be sent to where it was: a client that tried in vain waits long before it asks again.
        assert self._name_server is not None
        self._name_server.forget(list(record.serves))
        self._roster.died(record, now=now, reason=reason, only_silent=only_silent)
        if record.identity.kind != "rank":
            raise WorldError(
                f"the {record.identity} died: {reason}{self._log_tail(record)}",
                hint=f"its log is {self._log_of(record)}",
            )

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
                if self._roster.all_gone() and self._open_starts <= 0:
                    return
            time.sleep(TICK_S)

    def _report(self) -> Report:
        with self._lock:
            return self._accounts.report(
                self._roster,
                state=self._life.state.value,
                reason=self._reason,
                name_server=str(self._name_server.endpoint) if self._name_server is not None else "",
                versions=_versions(),
            )


def _versions() -> dict[str, str]:
    import parsl
    import pvaccess

    return {
        "beamcast": beamcast.__version__,
        "python": platform.python_version(),
        "pvapy": str(pvaccess.__version__),
        "parsl": str(parsl.__version__),
    }
