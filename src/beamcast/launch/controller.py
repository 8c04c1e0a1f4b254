"""The run controller: starts everything, waits for `ready`, lets the stream begin, watches, drains, ends.

One thread decides (`tick`), the pvAccess thread that brings heartbeats takes the same lock. What it starts it ends:
members get the order to stop, then SIGTERM, then SIGKILL, and they die with it in any case.
"""

import logging
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from msgspec import structs

import beamcast
from beamcast.config.site import LocalProvider
from beamcast.core.errors import BeamcastError, UsageError, WorldError
from beamcast.core.ids import ID_BITS
from beamcast.core.keyset import encode_keys
from beamcast.core.lifecycle import RunEvent, RunLifecycle, RunState
from beamcast.core.refusals import in_words, refusal
from beamcast.launch.accounts import Accounts
from beamcast.launch.beside import members_beside
from beamcast.launch.children import Children
from beamcast.launch.control_desk import ControlDesk
from beamcast.launch.deaths import Deaths
from beamcast.launch.end_deadline import EndDeadline
from beamcast.launch.host_needs import meet_needs
from beamcast.launch.jobs.allocations import Allocation, Allocations, RankKey
from beamcast.launch.jobs.moving import Moving
from beamcast.launch.jobs.watch import JobWatch, ThisMachine, scheduler_of
from beamcast.launch.network.opening import Ground, Opened, find_ground, open_network
from beamcast.launch.plan import RunPlan
from beamcast.launch.roster import MemberRecord, Roster
from beamcast.launch.run_pvs import RunPvs
from beamcast.launch.rundir.books import Books, BooksFile, read_books
from beamcast.launch.rundir.lease import RunLease
from beamcast.launch.rundir.missing_file import write_missing
from beamcast.launch.rundir.rundir import RunDir
from beamcast.launch.rundir.statefile import StateFile
from beamcast.launch.rundir.stop_request import take_request
from beamcast.launch.rundir.upkeep import Upkeep
from beamcast.launch.scaling import check_scale, enlarged
from beamcast.launch.start.starter import GrowingStarter, Starter, make_starter
from beamcast.observe.report import Report, encode_report
from beamcast.observe.source_lines import away_line, repeated_line
from beamcast.observe.verdict import verdict_of
from beamcast.pva.endpoint import Endpoint
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
)
from beamcast.security.secret import RunSecret

logger = logging.getLogger(__name__)

# What a look at everything costs grows with the ranks, 2 ms for a thousand of them, and a report 20 ms.
TICK_S, TICK_S_PER_MEMBER = 0.05, 0.0001
STATUS_PERIOD_S, STATUS_PERIOD_S_PER_MEMBER = 0.5, 0.001
# How long members may take to end after the order to stop, before they are ended.
STOP_DEADLINE_S = 10.0
# The same, of a run that was ended before it was ready: nobody has anything to finish.
EARLY_STOP_S = 3.0
# The same, where the user has asked twice. All of it has to be over `SECOND_STOP_S` after the second request.
HURRIED_STOP_S = 1.5
SECOND_STOP_S = 4.0
# From the first request until the end, while the run is still being started.
BEGIN_TO_END_S = 6.0
# All that comes after the report: the members' deadline, Parsl's, the scheduler's answer to a cancelled job.
TEARDOWN_S = 30.0
# For the lock of a thread that may hang.
LOCK_S = 1.0
ABANDONED = "ended by the user without draining"
# While draining, a ledger that has not changed for this long, with nothing waiting anywhere, does not change any more.
SETTLED_S = 2.0
# Two heartbeats that did not come from anybody in an allocation are no accident.
HEARTBEATS_MISSED = 2


class Controller:
    """One run. `run` does all of it and returns the final report."""

    def __init__(
        self,
        plan: RunPlan,
        run_dir: RunDir,
        *,
        watch: Callable[[Report], None],
        opened: Callable[[], None] = lambda: None,
        overdue: Callable[[], None] = lambda: None,
        resumes: bool = False,
    ) -> None:
        """`watch` gets a report twice a second; `opened` is called once the run directory is ours and made. `overdue`
        is called, on a thread of its own, when the run takes longer to end than it may: whoever gets it calls
        `abandon` and ends the process. `resumes`: goes on with a run whose controller was killed; UsageError or
        DataError where that can't be."""
        self._plan = plan
        self._dir = run_dir
        self._watch = watch
        self._opened = opened
        self._deadline = EndDeadline(overdue)
        self._lease: RunLease | None = None
        self._state_file = StateFile(run_dir.state)
        self._upkeep = Upkeep(run_dir.path)
        # Where the final report is; None where it could not be written.
        self.report_path: Path | None = run_dir.report
        self._lock = threading.RLock()
        self._roster = Roster(plan)
        self._tick_s = max(TICK_S, TICK_S_PER_MEMBER * len(self._roster.members))
        self._life = RunLifecycle()
        self._resumes = resumes
        before = read_books(run_dir.path) if resumes else None
        self._accounts: Accounts = Accounts.open(plan, run_dir.path, before)
        self._roster.epoch = (self._accounts.ledger.last_key or 0) >> ID_BITS
        self._books_file = BooksFile(run_dir.path, ranks=len(self._roster.members))
        self._reason = ""
        self._error: BeamcastError | None = None
        self._children = Children(run_dir.path)
        self._allocations: Allocations | None = None
        self._starter: Starter | None = None
        self._deaths: Deaths | None = None
        self._moving: Moving | None = None
        self._stop_asked = 0
        # Whether its thread has come to where it looks several times a second for what is asked of it.
        self._watches = False
        self._last_report: Report | None = None
        self._report_lock = threading.Lock()
        self._last_source = (0, 0.0)
        self._network: Opened | None = None
        self._desk = ControlDesk(plan, self._roster, lock=self._lock, ask_stop=self.ask_stop)

    def ask_stop(self) -> None:
        """End the run: the first time the stream is drained, the second time everything ends within seconds, the third
        time at once. From any thread."""
        self._stop_asked += 1
        if self._stop_asked == 1 and not self._watches:
            # What is being started may take minutes to answer; nothing streams yet.
            self._deadline.ends_within(BEGIN_TO_END_S)
        elif self._stop_asked == 2:
            self._deadline.ends_within(SECOND_STOP_S)
        elif self._stop_asked > 2:
            self._deadline.ends_within(0.0)

    def abandon(self) -> Report:
        """The end of a run that has not ended in its time: its report first, then everything that it started is ended
        without waiting for it. From any thread, once; the process ends after it."""
        report = self._report_of_now()
        report = structs.replace(report, state=self._life.state.value, reason=self._reason)
        report = self._keep_report(report)
        self._children.abandon()
        if self._starter is not None:
            self._starter.abandon()
        if self._lease is not None:
            self._lease.give_back()
        return report

    def _report_of_now(self) -> Report:
        """Whatever else holds the lock: then it is the last report that there was."""
        if not self._lock.acquire(timeout=LOCK_S):
            logger.warning("the run's thread does not answer; the report is the last one that it made")
            if not self._life.state.is_final:
                self._cancel(ABANDONED)
            return self._last_report or self._accounts_report()
        try:
            if not self._life.state.is_final:
                self._cancel(ABANDONED)
            return self._report()
        finally:
            self._lock.release()

    @property
    def error(self) -> BeamcastError | None:
        """Why the run failed."""
        return self._error

    def run(self) -> Report:
        """From submission to the report. Raises what made it impossible to begin; failures later are in the
        report and in `error`."""
        meet_needs(self._plan)
        with self._dir.own(self._plan.run) as self._lease:
            secret = self._dir.reopen() if self._resumes else self._dir.create(self._plan)
            if self._plan.dispatches:
                self._books_file.write(self._accounts.books(), now=time.monotonic())
            self._opened()
            try:
                self._conduct(secret)
            finally:
                # Once more: what ended while everything was taken down is in it.
                report = self._keep_report(self._report())
                self._watch(report)
                self._deadline.met()
            return report

    def _keep_report(self, report: Report) -> Report:
        """The final report, on disk, with the file of missing ids, whose name it has then. Written before anything is
        torn down, so that it is there whatever comes then."""
        with self._report_lock:
            if self._lease is None or self._lease.lost:
                return report
            report = structs.replace(report, missing_file=self._write_missing())
            self.report_path, trouble = self._dir.leave_report(self._plan.run, report)
            self._error = self._error or trouble
            return report

    def _write_missing(self) -> str:
        """Its name; empty where nothing is missing, it can't be written, or somebody does not let go of the books."""
        if self._accounts.moments.stream_end is None or not self._lock.acquire(timeout=LOCK_S):
            return ""
        try:
            ledger = self._accounts.ledger
            return (
                self._upkeep("the file of missing ids", lambda: write_missing(self._dir.path, ledger)) or ""
            )
        finally:
            self._lock.release()

    def _conduct(self, secret: RunSecret) -> None:
        # The jobs are left first, so that no rank looks for a network that is gone.
        with ExitStack() as stack, ExitStack() as jobs:
            try:
                self._carry_out(secret, stack, jobs)
            except Exception as error:
                # Who looks later, from elsewhere, has only what is in the run directory.
                logger.debug("the run can't go on", exc_info=True)
                refused = refusal(error, place=str(self._dir.path))
                fault = WorldError(f"{type(error).__name__}: {error}")
                self._fail(error if isinstance(error, BeamcastError) else refused or fault)
                if refused is not None:
                    raise refused from error
                raise
            finally:
                self._deadline.ends_within(TEARDOWN_S)
                self._keep_report(self._report())
                self._stop_members()

    def _carry_out(self, secret: RunSecret, stack: ExitStack, jobs: ExitStack) -> None:
        """Start everything, and watch it to its end. What is started is ended by the stacks."""
        ground = find_ground(self._plan)
        # What takes longest comes first: the job waits, and its workers start, while everything else does.
        allocations = self._allocations = self._open_allocations(jobs, ground)
        first = allocations.ask()
        network = self._network = open_network(
            stack,
            self._plan,
            self._dir.path,
            ground,
            secret=secret,
            handle=self._handle,
            take=self._desk.take,
        )
        self._deaths = Deaths(self._plan, self._roster, self._children, network.names, logs=self._dir.logs)
        self._moving = Moving(
            self._plan, self._roster, allocations, lock=self._lock, on_end=self._start_ended
        )
        self._deaths.begin(allocations, self._moving)
        stack.callback(self._children.end)
        for member in members_beside(self._plan, self._dir.path):
            self._children.start(member.name, member.module, *member.arguments)
        self._start_first(first)
        self._loop(network.pvs, allocations, self._moving)
        self._desk.ended(f"the run is {self._life.state.value}")

    def _open_allocations(self, jobs: ExitStack, ground: Ground) -> Allocations:
        """The site's way to start ranks, and who is asked about its jobs; both are ended by `jobs`."""
        site = self._plan.site
        starter = self._starter = make_starter(
            self._plan,
            self._dir.path,
            address=ground.sides.cluster,
            reached=ground.sides.reached,
            port=ground.interchange_port,
        )
        jobs.enter_context(starter)
        scheduled = site.executor == "parsl" and not isinstance(site.provider, LocalProvider)
        asked = scheduler_of(site.provider) if scheduled else None
        return Allocations(
            starter,
            jobs.enter_context(JobWatch(asked or ThisMachine(starter.ask_of))),
            queued=scheduled,
            silence_s=HEARTBEATS_MISSED * float(self._plan.workflow.deadlines.heartbeat),
        )

    def _start_first(self, first: Allocation) -> None:
        """All ranks start in the first allocation, as soon as it is given."""
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

    def _start_ended(self, allocation: int, pool: str, rank: int | None, status: int | str) -> None:
        """Comes from a Parsl thread."""
        with self._lock:
            assert self._allocations is not None
            self._allocations.start_ended(allocation)
            for each in range(self._plan.pool(pool).ranks) if rank is None else [rank]:
                self._allocations.ended(allocation, (pool, each), status, at=time.monotonic())

    # -- messages --------------------------------------------------------------------------------------------------

    def _handle(self, request: Request) -> Answer:
        with self._lock:
            # Not before: who had to wait here was heard all the same.
            now = time.monotonic()
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
        self._upkeep("the workflow as it is now", partial(self._dir.write_workflow, self._plan))
        coming, leaving = self._roster.scale(self._plan, pool, ranks)
        if not self._plan.dispatches:
            # Nobody hands out their frames one by one: each takes leave of the data distributor.
            for rank in leaving:
                self._desk.send_away(pool, rank, now=time.monotonic())
        self._desk.book.resize(pool, ranks)
        if coming:
            assert isinstance(self._starter, GrowingStarter), "check_scale refuses all others"
            assert self._allocations is not None
            names, room = sorted(coming), self._starter.room
            for part in (names[first : first + room] for first in range(0, len(names), room)):
                self._starter.extend(self._plan, part)
                self._allocations.wanted.append({name: coming[name] for name in part})
        logger.info(
            "pool %s: %d ranks from now on, %d come, %d leave", pool, ranks, len(coming), len(leaving)
        )
        return Scaled(coming=len(coming), leaving=len(leaving))

    def _register(self, request: Registration, now: float) -> Answer:
        logger.info("%s registers from %s", request.member, request.whereabouts.host)
        record = self._roster.members.get(str(request.member))
        expected = record is None or request.member.generation >= record.least_generation
        if record is not None and expected:
            assert self._deaths is not None
            self._deaths.replaced(record, request, now)
        if expected and request.member.kind == "rank" and self._allocations is not None:
            assert self._moving is not None
            key = (request.member.pool, request.member.rank)
            self._allocations.returned(key)
            self._moving.rank_comes(key, request.member.generation)
        welcome = self._roster.register(request, now=now)
        if isinstance(welcome, Welcome) and welcome.duty is not None:
            configured = self._desk.book.configured(str(request.member))
            welcome = structs.replace(welcome, duty=structs.replace(welcome.duty, configured=configured))
        return welcome

    def _heartbeat(self, beat: Heartbeat, now: float) -> Answer:
        answer = self._roster.heartbeat(beat, now=now)
        if isinstance(answer, Orders) and self._needs_released(beat, answer):
            answer = structs.replace(answer, released=encode_keys(self._accounts.ledger.final_results()))
        record = self._roster.members.get(str(beat.member))
        self._desk.book.answered(str(beat.member), beat.answers)
        commands = self._desk.book.orders(str(beat.member))
        if commands and isinstance(answer, Orders):
            answer = structs.replace(answer, commands=commands)
        # What a rank did before it was given up is true all the same, so its ids count.
        if record is not None:
            self._accounts.enter(beat, now=now)
        if record is not None and record.live:
            self._name(record, beat)
        return answer

    def _name(self, record: MemberRecord, beat: Heartbeat) -> None:
        """Tell the name servers what a member serves, where that is news."""
        where, said = record.whereabouts, (beat.serves, beat.rpc_channel, beat.rpc_address, beat.rpc_port)
        if where is None or record.named == said:
            return
        assert self._network is not None
        if beat.serves:
            self._network.names.serve_at(dict.fromkeys(beat.serves, Endpoint(where.address, where.port)))
        if beat.rpc_channel:
            rpc = Endpoint(beat.rpc_address or where.address, beat.rpc_port)
            self._network.names.serve_at({beat.rpc_channel: rpc})
        record.named = said

    def _needs_released(self, beat: Heartbeat, orders: Orders) -> bool:
        """Whether it is about to begin in the place of another one, and has to know which results are out."""
        if beat.member.kind == "results":
            return beat.member.generation > 0 and beat.state == "registered"
        return orders.connect is not None and self._plan.retires(beat.member.pool)

    # -- the loop --------------------------------------------------------------------------------------------------

    def _loop(self, pvs: RunPvs, allocations: Allocations, moving: Moving) -> None:
        next_status = 0.0
        self._watches = True
        if self._stop_asked < 2:
            self._deadline.met()
        while not self._life.state.is_final and not self._roster.stop:
            time.sleep(self._tick_s)
            now = time.monotonic()
            pvs.look()
            with self._lock:
                with self._failing():
                    self._tick(now)
                report = self._report() if now >= next_status else None
                books = self._due_books(now)
            if books is not None:
                self._upkeep("the books", partial(self._books_file.write, books, now=now))
            with self._failing():
                self._ask_more(allocations)
                moving.ask()
                allocations.release_given_up()
            if report is not None:
                period_s = max(STATUS_PERIOD_S, STATUS_PERIOD_S_PER_MEMBER * len(self._roster.members))
                next_status = now + period_s
                pvs.update(report)
                self._upkeep("the state file", partial(self._state_file, report))
                self._watch(report)
                self._take_stop_request()

    def _due_books(self, now: float) -> Books | None:
        if not self._plan.dispatches or not self._books_file.due(now, changed_at=self._accounts.changed_at):
            return None
        return self._accounts.books()

    def _ask_more(self, allocations: Allocations) -> None:
        """Ask for the allocations that are wanted. Takes seconds, so not under the lock: heartbeats go on."""
        while allocations.wanted:
            self._start_ranks(allocations.ask(), allocations.wanted[0])
            del allocations.wanted[0]

    def _take_stop_request(self) -> None:
        """Hosts that can't reach us leave their request in the run directory."""
        request = self._upkeep("the answer to a request to stop", partial(take_request, self._dir.path))
        if request is not None:
            logger.info("%s (pid %d) asks to stop", request.host, request.pid)
            for _ in range(2 if request.at_once else 1):
                self.ask_stop()

    def _tick(self, now: float) -> None:
        assert self._lease is not None
        if self._lease.lost:
            raise WorldError(
                f"another controller has taken over {self._dir.path}: this one was taken for dead"
            )
        assert self._deaths is not None
        assert self._network is not None
        self._network.names.revive()
        self._deaths.look(now)
        self._desk.tick(now)
        self._accounts.check_failed()
        self._roster.next_epoch()
        if self._stop_asked > 1:
            self._cancel("stopped by the user, without draining")
            return
        if self._life.state in (RunState.READY, RunState.STREAMING):
            assert self._moving is not None
            reason = self._moving.look(now)
            if reason:
                self._end_stream(now, reason)
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
        elif self._roster.all_ready() and self._counts(now):
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

    def _counts(self, now: float) -> bool:
        """Whether frames count from now on: the mirror has said which is the first one of the run. The run is not ready
        before, since whoever waits for that may begin at once; and only then may a simulator begin."""
        mirror = self._roster.members["mirror"]
        moments = self._accounts.moments
        self._roster.arm = True
        if mirror.counts_from is None:
            return False
        if not (self._resumes and self._accounts.ledger.seen()):
            self._accounts.ledger.count_from(mirror.counts_from)
        self._roster.start = True
        moments.started = self._accounts.changed_at = now
        return True

    def _ready(self, now: float) -> None:
        if self._accounts.ledger.seen() or self._simulator_done():
            self._move(RunEvent.FIRST_FRAME)
        elif self._stop_asked:
            self._end_stream(now, "stopped by the user")
        else:
            self._check_first_frame(now - (self._accounts.moments.started or now))

    def _check_first_frame(self, waited_s: float) -> None:
        timeout = self._plan.workflow.source.first_frame_timeout
        if timeout is not None and waited_s > timeout:
            source = self._accounts.source(self._roster)
            ignored = away_line(source, now=time.time()) or repeated_line(source)
            raise WorldError(
                f"no frame came from {self._plan.source_channel} within {timeout} after the run was ready"
                + (f"; {ignored}" if ignored else ""),
                hint=None
                if ignored
                else "is the detector acquiring? source.first_frame_timeout says how long to wait for it",
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
        if "simulator" not in self._roster.members:
            last = self._accounts.ledger.last_key
            self._accounts.ledger.end_with(-1 if last is None else last)
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
        assert self._deaths is not None
        settled = quiet and not held and not self._deaths.some_come_back
        late = now - moments.stream_end > float(self._plan.workflow.deadlines.drain)
        if late:
            self._reason += "; the drain deadline passed"
        if late or (source_ended and heard and (self._accounts.ledger.is_whole() or settled)):
            moments.drained = now
            self._move(RunEvent.DRAINED)

    # -- failures --------------------------------------------------------------------------------------------------

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """What goes wrong inside, or is refused by the operating system, ends the run in good order."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a fault is raised again
            worded = in_words(error, place=str(self._dir.path))
            with self._lock:
                self._fail(worded)

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
        asked_at = time.monotonic()
        while time.monotonic() - asked_at < self._stop_within_s():
            with self._lock:
                silent = self._roster.silent(now=time.monotonic(), silence_s=self._roster.longest_silence_s())
                for record in silent:
                    self._roster.died(record, now=time.monotonic(), reason="did not end")
                open_starts = self._allocations.open_starts if self._allocations is not None else 0
                if self._roster.all_gone() and open_starts <= 0:
                    return
            time.sleep(TICK_S)

    def _stop_within_s(self) -> float:
        if self._stop_asked > 1:
            return HURRIED_STOP_S
        return EARLY_STOP_S if self._accounts.moments.ready is None else STOP_DEADLINE_S

    def _report(self) -> Report:
        with self._lock:
            report = self._last_report = self._accounts_report()
        return report

    def _accounts_report(self) -> Report:
        report = self._accounts.report(
            self._roster,
            state=self._life.state.value,
            reason=self._reason,
            name_server=str(self._network.names.endpoint) if self._network is not None else "",
            versions=_versions(),
        )
        if self._allocations is not None:
            allocations = self._allocations.report(now=time.monotonic())
            report = structs.replace(report, allocations=allocations)
        if self._error is not None:
            report = structs.replace(report, error_status=self._error.exit_code)
        return structs.replace(report, verdict=verdict_of(report))


def _versions() -> dict[str, str]:
    import parsl
    import pvaccess

    return {
        "beamcast": beamcast.__version__,
        "python": platform.python_version(),
        "pvapy": str(pvaccess.__version__),
        "parsl": str(parsl.__version__),
    }
