"""Starting the ranks of a run with Parsl: one task for each rank, or one MPI start for each pool."""

import logging
import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from msgspec import structs

from beamcast.config.site import LocalProvider, MpiStart
from beamcast.core.errors import UsageError, WorldError
from beamcast.launch.jobs.words import UNKNOWN, JobEnd, JobState, JobWord
from beamcast.launch.plan import RunPlan
from beamcast.launch.seating import (
    allocation_nodes,
    more_seats,
    seating,
    seats_of_allocation,
    workers_per_node,
)
from beamcast.launch.start import interchange
from beamcast.launch.start.kernel import end_interchanges, end_kernel, finished
from beamcast.launch.start.node_lines import node_preparation
from beamcast.launch.start.plain_path import plain_path
from beamcast.launch.start.starts import Generations, OnEnd
from beamcast.members.host.seat import Seat, hands_seen, sit, taken_by, write_seats
from beamcast.members.workers import on_node
from beamcast.members.workers.parsl_only import without_sdk

logger = logging.getLogger(__name__)

EXECUTOR = "ranks-"
NODE_FILE = "nodes"
ALLOCATION = "allocation-"
COMPLAINT_LINES = 8
# For the scheduler to take the order to end a job, and where the user is in a hurry.
RELEASE_S, HURRIED_RELEASE_S = 15.0, 3.0
# As long as members wait for a silent controller: a link that was cut for less must not cost the allocation. That a job
# has ended is learned from the scheduler meanwhile (`beamcast.launch.jobs.watch`).
PARSL_SILENCE_S = 30


def mpi_command(
    run_dir: str,
    pool: str,
    size: int,
    max_restarts: int,
    first_generation: int,
    python: str,
    *,
    understudy: bool,
    stdout: str,
    stderr: str,
    parsl_resource_specification: dict[str, Any],
) -> str:
    """The shell line of one MPI start; Parsl runs it on the first node of the allocation. Parsl itself reads the
    keyword arguments, from the call."""
    words = [python, "-P", "-m", "beamcast.members.host.keeper", "--run-dir", run_dir, "--pool", pool]
    words += ["--size", str(size), "--max-restarts", str(max_restarts)]
    words += ["--first-generation", str(first_generation)]
    words += [] if understudy else ["--no-understudy"]
    return "exec $PARSL_MPI_PREFIX " + " ".join(shlex.quote(word) for word in words)


class ParslStart:
    """Asks for allocations and starts ranks in them. Use as a context manager, which gives all of them back.

    Each allocation has an executor of its own: a rank that is meant for one can't land on another that is free, and
    one allocation that fails spoils nothing for the next.
    """

    def __init__(
        self,
        plan: RunPlan,
        run_dir: Path,
        *,
        address: str,
        reached: str | None = None,
        port: int | None = None,
    ) -> None:
        """Workers connect to `address` and `port`, which they see as `reached` where a forwarder stands between;
        without a port Parsl chooses one from the site's range."""
        self._plan = plan
        self._run_dir = run_dir
        self._address = address
        self._reached = reached or address
        self._port = port
        self._seats = seating(plan)
        self._room = seats_of_allocation(plan)
        self._parsl_dir = run_dir / "parsl"
        self._closing = ExitStack()
        self._kernel: Any = None
        self._asked = 0
        self._jobs: dict[int, str] = {}
        self._asking = threading.Lock()
        self._abandoned = False

    def __enter__(self) -> Self:
        with without_sdk():
            from parsl.dataflow.dflow import DataFlowKernel

        # Parsl finds its interchange and worker pool on PATH; the interpreter's own folder has the right ones.
        own = str(Path(sys.executable).parent)
        os.environ["PATH"] = os.pathsep.join([own, os.environ.get("PATH", "")])
        if isinstance(self._plan.site.start, MpiStart):
            self._check_mpi(self._plan.site.start)
        nodes = sum(self._plan.nodes_of(pool) for pool in self._plan.pools)
        (self._run_dir / NODE_FILE).write_text("localhost\n" * nodes, encoding="utf-8")
        shared = not isinstance(self._plan.site.provider, LocalProvider)
        with ExitStack() as stack:
            self._parsl_dir = stack.enter_context(plain_path(self._run_dir, shared=shared)) / "parsl"
            self._kernel = DataFlowKernel(self.config())
            self._closing = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._closing:
            self._release_all(within_s=RELEASE_S)
            end_kernel(self._kernel)
        self._kernel = None

    def abandon(self) -> None:
        """As `Starter`."""
        self._abandoned = True
        # A job that is being submitted has no number yet by which it could be ended.
        if not self._asking.acquire(timeout=HURRIED_RELEASE_S):
            logger.warning(
                "a job was being submitted when the run was ended: look whether it is in the queue"
            )
        kernel = self._kernel
        if kernel is not None:
            self._release_all(within_s=HURRIED_RELEASE_S)
            end_interchanges(kernel)
            self._closing.close()

    def _release_all(self, *, within_s: float) -> None:
        """Give all allocations back. A scheduler may not answer: then its jobs are named, for somebody has to."""
        jobs = dict(self._jobs)
        for allocation, job in jobs.items():
            if not finished(partial(self.release, allocation), within_s=within_s, name=f"end of job {job}"):
                logger.warning(
                    "the scheduler did not answer within %g s when job %s was to be ended; look whether it is gone",
                    within_s,
                    job,
                )

    def _check_mpi(self, start: MpiStart) -> None:
        if shutil.which(start.launcher) is None:
            raise UsageError(
                f"the MPI launcher {start.launcher!r} is not on PATH",
                hint="install one (`pip install mpich`), load the site's MPI module in worker_init, or use a site "
                "with start mode 'workers'",
            )
        needed = sum(self._plan.nodes_of(pool) for pool in self._plan.pools)
        has = self._plan.site.allocation.nodes
        if needed > has and not isinstance(self._plan.site.provider, LocalProvider):
            # Parsl gives no node to two MPI starts at once: the last pool would wait for ever.
            raise UsageError(
                f"with MPI each pool has nodes of its own: the pools need {needed}, an allocation has {has}",
                hint="raise [allocation] nodes or ranks_per_node, or use start mode 'workers', where pools share",
            )

    def config(self) -> Any:
        """The Parsl configuration of the run."""
        with without_sdk():
            import parsl

        return parsl.Config(
            executors=[self._executor(1)],
            # Exactly the blocks that we ask for: scaling is our decision, not Parsl's.
            strategy="none",
            strategy_period=1.0,
            retries=0,
            run_dir=str(self._parsl_dir),
            # Parsl's own log file has DEBUG lines only, megabytes an hour: its messages go to our logging instead.
            initialize_logging=False,
            usage_tracking=0,
        )

    def _executor(self, allocation: int) -> Any:
        from parsl.executors import HighThroughputExecutor, MPIExecutor

        from beamcast.launch.start.providers import make_provider

        start = self._plan.site.start
        common: dict[str, Any] = {
            "label": self._label(allocation),
            "address": self._address,
            "loopback_address": "127.0.0.1",
            "worker_port": self._port,
            "worker_port_range": (self._plan.site.network.ports.first, self._plan.site.network.ports.last),
            "provider": make_provider(self._plan.site, worker_init=self._worker_init()),
            "heartbeat_period": 2,
            "heartbeat_threshold": PARSL_SILENCE_S,
            "encrypted": True,
        }
        if isinstance(start, MpiStart):
            executor = MPIExecutor(
                **common, mpi_launcher=start.launcher, max_workers_per_block=len(self._plan.pools)
            )
        else:
            executor = HighThroughputExecutor(
                **common,
                max_workers_per_node=workers_per_node(self._seats),
                cores_per_worker=1e-6,
                prefetch_capacity=0,
            )
        # The argument of this name takes a list in one of the two executors and a string in the other.
        executor.interchange_launch_cmd = interchange.command()
        executor.launch_cmd = on_node.command(executor.launch_cmd)
        executor.all_addresses = {self._reached}
        return executor

    def _worker_init(self) -> str:
        node_file = self._node_file() if isinstance(self._plan.site.start, MpiStart) else ""
        return "\n".join(filter(None, [node_preparation(self._plan.site), node_file]))

    def _node_file(self) -> str:
        """Parsl's MPI support wants a scheduler's list of nodes. Without a scheduler it gets one that names this
        machine once for each pool, since it gives no node to two MPI starts at once."""
        if not isinstance(self._plan.site.provider, LocalProvider):
            return ""
        return f"export PBS_NODEFILE={shlex.quote(str(self._run_dir / NODE_FILE))}"

    def ask(self) -> tuple[int, str]:
        """Ask for an allocation; returns its number, counted from 1, and the scheduler's id of the job. WorldError,
        with the scheduler's words, when it is refused."""
        with self._asking:
            while self._abandoned:
                time.sleep(1.0)  # the process ends, and no job is to be left behind
            return self._ask()

    def _ask(self) -> tuple[int, str]:
        number = self._asked + 1
        if number > 1 and self._port is None:
            self._kernel.add_executors([self._executor(number)])
        self._asked = number
        executor = self._executor_of(number)
        blocks = executor.scale_out_facade(1)
        if not blocks:
            refused = getattr(executor.provider, "refused", [])
            message = next(iter(executor.status_facade.values())).message
            raise WorldError(
                "; ".join(refused) or f"the scheduler refuses the job: {message}",
                hint="`beamcast plan` shows the batch script; queue, account, walltime and nodes are in the site file",
            )
        self._jobs[number] = str(executor.blocks_to_job_id[blocks[0]])
        return number, self._jobs[number]

    def extend(self, plan: RunPlan, ranks: Sequence[tuple[str, int]]) -> None:
        """As `Starter`."""
        self._plan, self._seats = plan, more_seats(plan, self._seats, ranks)

    @property
    def room(self) -> int:
        """As `Starter`."""
        return self._room

    def ask_of(self, job: str) -> JobWord:
        """As `Starter`: a block without a scheduler is processes of this machine."""
        number = next((number for number, known in self._jobs.items() if known == job), None)
        if number is None:
            return UNKNOWN
        try:
            (status,) = self._executor_of(number).provider.status([job])
        except OSError:
            # The provider's own notes can't be read: the disk is full, or somebody removed them.
            return UNKNOWN
        if not status.terminal:
            return JobWord(state=JobState.RUNNING)
        if status.exit_code is None:
            return JobWord(state=JobState.ENDED, end=JobEnd.CANCELLED, reason=status.message or "")
        end = JobEnd.FAILED if status.exit_code else JobEnd.COMPLETED
        return JobWord(state=JobState.ENDED, end=end, exit_status=str(status.exit_code))

    def release(self, allocation: int) -> None:
        """Give an allocation back, with everything that still runs in it; nothing happens to one that has ended."""
        if allocation in self._jobs:
            self._executor_of(allocation).provider.cancel([self._jobs[allocation]])

    def complaint(self, allocation: int) -> str:
        """The last lines that the job's script wrote to stderr; "" where there are none."""
        resource = self._executor_of(allocation).provider.resources.get(self._jobs.get(allocation), {})
        # Parsl's local provider names the script only.
        path = resource.get("job_stderr_path") or f"{resource.get('script_path')}.err"
        try:
            lines = Path(path).read_text(errors="replace", encoding="utf-8").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-COMPLAINT_LINES:])

    def _executor_of(self, allocation: int) -> Any:
        return self._kernel.executors[self._label(allocation)]

    def _label(self, allocation: int) -> str:
        """Where workers have to use one port, which a forwarder knows, there is one executor for all allocations."""
        return f"{EXECUTOR}{allocation if self._port is None else 1}"

    def start(self, allocation: int, generations: Generations, on_end: OnEnd) -> int:
        """Start ranks in an allocation, each with the given generation; returns how many starts that were.

        `on_end(allocation, pool, rank, status)` is called once for each of them from a Parsl thread when it ends.
        With MPI, all ranks of a pool are started together, with the highest of their generations.
        """
        if isinstance(self._plan.site.start, MpiStart):
            pools = [
                pool.name for pool in self._plan.pools if any(name == pool.name for name, _ in generations)
            ]
            for pool in pools:
                first = max(number for (name, _), number in generations.items() if name == pool)
                self._watch_mpi(self._submit_mpi(allocation, pool, first), allocation, pool, on_end)
            return len(pools)
        seats = tuple(
            structs.replace(seat, first_generation=generations[seat.pool, seat.rank])
            for seat in self._seats
            if (seat.pool, seat.rank) in generations
        )
        self._seat(allocation, seats, on_end)
        return len(seats)

    def _seat(self, allocation: int, seats: tuple[Seat, ...], on_end: OnEnd) -> None:
        """Fill an allocation with hands: whoever lands on a seat keeps its rank."""
        seat_dir = self._run_dir / f"{ALLOCATION}{allocation}"
        write_seats(seat_dir, seats)
        nodes = allocation_nodes(self._plan)
        open_seats = OpenSeats(seat_dir, seats, partial(on_end, allocation))
        for hand in range(nodes * workers_per_node(self._seats)):
            future = self._submit(allocation, sit, [str(self._run_dir), str(seat_dir), hand, nodes])
            future.add_done_callback(partial(open_seats.hand_ended, hand))

    def _submit(
        self, allocation: int, function: Callable[..., Any], arguments: Sequence[Any]
    ) -> "Future[Any]":
        from parsl import python_app

        app = python_app(function, data_flow_kernel=self._kernel, executors=[self._label(allocation)])
        future: Future[Any] = app(*arguments)
        return future

    def _submit_mpi(self, allocation: int, pool_name: str, first_generation: int) -> "Future[Any]":
        from parsl import bash_app

        pool = self._plan.pool(pool_name)
        app = bash_app(mpi_command, data_flow_kernel=self._kernel, executors=[self._label(allocation)])
        log = str(self._run_dir / "logs" / f"mpi-{pool_name}.log")
        nodes = self._plan.nodes_of(pool)
        start = self._plan.site.start
        assert isinstance(start, MpiStart)
        future: Future[Any] = app(
            str(self._run_dir),
            pool_name,
            pool.ranks,
            pool.restart.max_restarts,
            first_generation,
            sys.executable,
            understudy=pool.restart.understudy,
            stdout=log,
            stderr=log,
            parsl_resource_specification={
                "num_nodes": nodes,
                "num_ranks": pool.ranks,
                "ranks_per_node": -(-pool.ranks // nodes),
                "launcher_options": " ".join(start.options),
            },
        )
        return future

    @staticmethod
    def _watch_mpi(future: "Future[Any]", allocation: int, pool: str, on_end: OnEnd) -> None:
        def ended(done: "Future[Any]") -> None:
            on_end(allocation, pool, None, _mpi_status(done))

        future.add_done_callback(ended)


class OpenSeats:
    """Turns the ends of hands into the ends of ranks, each told once."""

    def __init__(
        self, run_dir: Path, seats: tuple[Seat, ...], on_end: Callable[[str, int, int | str], None]
    ) -> None:
        self._run_dir = run_dir
        self._open = {(seat.pool, seat.rank) for seat in seats}
        self._on_end = on_end
        self._lock = threading.Lock()

    @property
    def open(self) -> frozenset[tuple[str, int]]:
        """Pool and rank of the starts that have not ended."""
        with self._lock:
            return frozenset(self._open)

    def give_up(self) -> frozenset[tuple[str, int]]:
        """Tell no more ends; returns the starts that were open."""
        with self._lock:
            given_up = frozenset(self._open)
            self._open.clear()
        return given_up

    def hand_ended(self, hand: int, done: "Future[Any]") -> None:
        """A task is over. One that failed without a seat never ran: then the ranks that nobody sits on have failed,
        since Parsl fails all tasks when it has no allocation any more."""
        wrong = _what_went_wrong(done)
        if wrong is None:
            sat = done.result()
            self._tell([(sat.pool, sat.rank)], sat.status)
            return
        seat = taken_by(self._run_dir, hand)
        self._tell([seat] if seat is not None else self._nobody_on(), wrong)

    def _nobody_on(self) -> list[tuple[str, int]]:
        with self._lock:
            taken = {taken_by(self._run_dir, hand) for hand in hands_seen(self._run_dir)}
            return sorted(self._open - taken)

    def _tell(self, ranks: list[tuple[str, int]], status: int | str) -> None:
        with self._lock:
            ended = [rank for rank in ranks if rank in self._open]
            self._open.difference_update(ended)
        for pool, rank in ended:
            self._on_end(pool, rank, status)


def _mpi_status(done: "Future[Any]") -> int | str:
    """An exit status where the start ran to an end; Parsl makes an error of one that is not 0."""
    from parsl.app.errors import BashExitFailure

    if not done.cancelled() and isinstance(error := done.exception(), BashExitFailure):
        return int(error.exitcode)
    return _what_went_wrong(done) or int(done.result() or 0)


def _what_went_wrong(done: "Future[Any]") -> str | None:
    if done.cancelled():
        return "its task was cancelled"
    error = done.exception()
    return None if error is None else f"{type(error).__name__}: {error}"
