"""Starting the ranks of a run with Parsl: one task for each rank, or one MPI start for each pool."""

import os
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from msgspec import structs

from beamcast.config.site import LocalProvider, MpiStart
from beamcast.core.errors import UsageError, WorldError
from beamcast.launch import interchange
from beamcast.launch.node_lines import node_preparation
from beamcast.launch.plain_path import plain_path
from beamcast.launch.plan import RunPlan
from beamcast.launch.seating import allocation_nodes, seating, workers_per_node
from beamcast.members.seat import Seat, hands_seen, sit, taken_by, write_seats

EXECUTOR = "ranks"
NODE_FILE = "nodes"
REPLACEMENT = "allocation-"
# Parsl counts its blocks from here.
FIRST_BLOCK = "0"
# As long as members wait for a silent controller: a link that was cut for less must not cost the allocation. That a job
# has ended is learned from the scheduler meanwhile (`beamcast.launch.doubt`).
PARSL_SILENCE_S = 30

OnEnd = Callable[[str, int | None, int | str], None]


def mpi_command(
    run_dir: str,
    pool: str,
    size: int,
    max_restarts: int,
    python: str,
    *,
    understudy: bool,
    stdout: str,
    stderr: str,
    parsl_resource_specification: dict[str, Any],
) -> str:
    """The shell line of one MPI start; Parsl runs it on the first node of the allocation. Parsl itself reads the
    keyword arguments, from the call."""
    words = [python, "-m", "beamcast.members.keeper", "--run-dir", run_dir, "--pool", pool]
    words += ["--size", str(size), "--max-restarts", str(max_restarts)]
    words += [] if understudy else ["--no-understudy"]
    return "exec $PARSL_MPI_PREFIX " + " ".join(shlex.quote(word) for word in words)


class ParslStart:
    """Starts and restarts ranks; the futures end when the ranks have. Use as a context manager."""

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
        self._parsl_dir = run_dir / "parsl"
        self._closing = ExitStack()
        self._kernel: Any = None
        self._replaced = 0
        # By the number of Parsl's block: whose starts are open in it.
        self._allocations: dict[str, OpenSeats] = {}

    def __enter__(self) -> Self:
        from parsl.dataflow.dflow import DataFlowKernel

        # Parsl finds its interchange and worker pool on PATH; the interpreter's own folder has the right ones.
        own = str(Path(sys.executable).parent)
        os.environ["PATH"] = os.pathsep.join([own, os.environ.get("PATH", "")])
        if isinstance(self._plan.site.start, MpiStart):
            self._check_mpi(self._plan.site.start)
        nodes = sum(self._plan.nodes_of(pool) for pool in self._plan.pools)
        (self._run_dir / NODE_FILE).write_text("localhost\n" * nodes)
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
            self._kernel.cleanup()
        self._kernel = None

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
        import parsl

        return parsl.Config(
            executors=[self._executor()],
            # Exactly the blocks that we ask for: scaling is our decision, not Parsl's.
            strategy="none",
            # The first allocation is asked for only after one period; the default of 5 s is time the user waits.
            strategy_period=0.2,
            retries=0,
            run_dir=str(self._parsl_dir),
            # Parsl's own log file has DEBUG lines only, megabytes an hour: its messages go to our logging instead.
            initialize_logging=False,
            usage_tracking=0,
        )

    def _executor(self) -> Any:
        from parsl.executors import HighThroughputExecutor, MPIExecutor

        from beamcast.launch.providers import make_provider

        start = self._plan.site.start
        common: dict[str, Any] = {
            "label": EXECUTOR,
            "address": self._address,
            "loopback_address": "127.0.0.1",
            "worker_port": self._port,
            "worker_port_range": (self._plan.site.network.ports.first, self._plan.site.network.ports.last),
            "provider": make_provider(self._plan.site, worker_init=self._worker_init()),
            "heartbeat_period": 2,
            "heartbeat_threshold": PARSL_SILENCE_S,
            "encrypted": True,
            # Where we ask for another allocation ourselves, one that failed must not spoil the executor for good.
            "block_error_handler": not self._plan.site.allocation.replacements,
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

    def start(self, on_end: OnEnd) -> int:
        """Start all ranks of all pools; returns how many starts that were. `on_end(pool, rank, status)` is called once
        for each of them from a Parsl thread when it ends (rank None: the whole MPI start); status is an exit status,
        or what went wrong."""
        if isinstance(self._plan.site.start, MpiStart):
            for pool in self._plan.pools:
                self._watch_mpi(self._submit_mpi(pool.name), pool.name, on_end)
            return len(self._plan.pools)
        self._seat(FIRST_BLOCK, self._run_dir, self._seats, on_end)
        return len(self._seats)

    def replace(self, generations: Mapping[tuple[str, int], int], on_end: OnEnd) -> int:
        """Ask for another allocation for the ranks (pool, rank) that have lost theirs, each to begin with the given
        generation; returns and calls as `start`. Only for the start mode `workers`."""
        self._replaced += 1
        seats = tuple(
            structs.replace(seat, first_generation=generations[seat.pool, seat.rank])
            for seat in self._seats
            if (seat.pool, seat.rank) in generations
        )
        self._seat(self._new_block(), self._run_dir / f"{REPLACEMENT}{self._replaced}", seats, on_end)
        return len(seats)

    def _new_block(self) -> str:
        """Ask the scheduler for one more allocation; WorldError when it refuses."""
        executor = self._kernel.executors[EXECUTOR]
        blocks = executor.scale_out_facade(1)
        if not blocks:
            last = list(executor.status_facade.values())[-1]
            raise WorldError(f"no further allocation could be had: {last.message}")
        return str(blocks[0])

    def allocations(self) -> dict[str, frozenset[tuple[str, int]]]:
        """The ranks (pool, rank) of each allocation whose starts have not ended; none under an MPI start."""
        return {block: seats.open for block, seats in tuple(self._allocations.items()) if seats.open}

    def ask_about(self, block: str) -> str | None:
        """How the scheduler says that an allocation has ended; None while it does not say so. May take seconds."""
        from parsl.jobs.states import TERMINAL_STATES

        executor = self._kernel.executors[EXECUTOR]
        job = executor.blocks_to_job_id.get(block)
        if job is None:
            return None
        (status,) = executor.provider.status([job])
        if status.state not in TERMINAL_STATES:
            return None
        return f"its allocation (job {job}) has ended: {status.state.name.lower()}"

    def give_up(self, block: str) -> frozenset[tuple[str, int]]:
        """An allocation is gone: nobody is told about its starts any more. Returns those that were open."""
        return self._allocations.pop(block).give_up()

    def _seat(self, block: str, seat_dir: Path, seats: tuple[Seat, ...], on_end: OnEnd) -> None:
        """Fill an allocation with hands: whoever lands on a seat keeps its rank."""
        write_seats(seat_dir, seats)
        nodes = allocation_nodes(self._plan)
        open_seats = self._allocations[block] = OpenSeats(seat_dir, seats, on_end)
        for hand in range(nodes * workers_per_node(self._seats)):
            future = self._submit(sit, [str(self._run_dir), str(seat_dir), hand, nodes])
            future.add_done_callback(partial(open_seats.hand_ended, hand))

    def _submit(self, function: Callable[..., Any], arguments: Sequence[Any]) -> "Future[Any]":
        from parsl import python_app

        app = python_app(function, data_flow_kernel=self._kernel, executors=[EXECUTOR])
        future: Future[Any] = app(*arguments)
        return future

    def _submit_mpi(self, pool_name: str) -> "Future[Any]":
        from parsl import bash_app

        pool = self._plan.pool(pool_name)
        app = bash_app(mpi_command, data_flow_kernel=self._kernel, executors=[EXECUTOR])
        log = str(self._run_dir / "logs" / f"mpi-{pool_name}.log")
        nodes = self._plan.nodes_of(pool)
        start = self._plan.site.start
        assert isinstance(start, MpiStart)
        future: Future[Any] = app(
            str(self._run_dir),
            pool_name,
            pool.ranks,
            pool.restart.max_restarts,
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
    def _watch_mpi(future: "Future[Any]", pool: str, on_end: OnEnd) -> None:
        def ended(done: "Future[Any]") -> None:
            on_end(pool, None, _what_went_wrong(done) or int(done.result() or 0))

        future.add_done_callback(ended)


class OpenSeats:
    """Turns the ends of hands into the ends of ranks, each told once."""

    def __init__(self, run_dir: Path, seats: tuple[Seat, ...], on_end: OnEnd) -> None:
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


def _what_went_wrong(done: "Future[Any]") -> str | None:
    if done.cancelled():
        return "its task was cancelled"
    error = done.exception()
    return None if error is None else f"{type(error).__name__}: {error}"
