"""Starting the ranks of a run with Parsl: one task for each rank, or one MPI start for each pool."""

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from beamcast.config.site import LocalProvider, MpiStart, PbsProvider, SlurmProvider
from beamcast.core.errors import UsageError
from beamcast.launch.plan import RunPlan
from beamcast.members.keeper import Errand, keep

EXECUTOR = "ranks"


def mpi_command(
    run_dir: str, pool: str, size: int, max_restarts: int, python: str, *, stdout: str = "", stderr: str = ""
) -> str:
    """The shell line of one MPI start; Parsl runs it on the first node of the allocation."""
    import shlex

    words = [python, "-m", "beamcast.members.keeper", "--run-dir", run_dir, "--pool", pool]
    words += ["--size", str(size), "--max-restarts", str(max_restarts)]
    return "exec $PARSL_MPI_PREFIX " + " ".join(shlex.quote(word) for word in words)


class ParslStart:
    """Starts and restarts ranks; the futures end when the ranks have. Use as a context manager."""

    def __init__(self, plan: RunPlan, run_dir: Path, *, address: str) -> None:
        self._plan = plan
        self._run_dir = run_dir
        self._address = address
        self._kernel: Any = None

    def __enter__(self) -> Self:
        from parsl.dataflow.dflow import DataFlowKernel

        # Parsl finds its interchange and worker pool on PATH; the interpreter's own folder has the right ones.
        own = str(Path(sys.executable).parent)
        os.environ["PATH"] = os.pathsep.join([own, os.environ.get("PATH", "")])
        start = self._plan.site.start
        if isinstance(start, MpiStart) and shutil.which(start.launcher) is None:
            raise UsageError(
                f"the MPI launcher {start.launcher!r} is not on PATH",
                hint="install one (`pip install mpich`), load the site's MPI module in worker_init, or use a site "
                "with start mode 'workers'",
            )
        self._kernel = DataFlowKernel(self.config())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kernel.cleanup()
        self._kernel = None

    def config(self) -> Any:
        """The Parsl configuration of the run."""
        import parsl

        return parsl.Config(
            executors=[self._executor()],
            # Exactly the blocks that we ask for: scaling is our decision, not Parsl's.
            strategy="none",
            retries=0,
            run_dir=str(self._run_dir / "parsl"),
            initialize_logging=True,
            usage_tracking=0,
        )

    def _executor(self) -> Any:
        from parsl.executors import HighThroughputExecutor, MPIExecutor

        start = self._plan.site.start
        common: dict[str, Any] = {
            "label": EXECUTOR,
            "address": self._address,
            "loopback_address": "127.0.0.1",
            "provider": self._provider(),
            "heartbeat_period": 2,
            "heartbeat_threshold": 10,
            "encrypted": True,
        }
        if isinstance(start, MpiStart):
            return MPIExecutor(
                **common, mpi_launcher=start.launcher, max_workers_per_block=len(self._plan.pools)
            )
        ranks = sum(pool.ranks for pool in self._plan.pools)
        per_node = -(-ranks // self._plan.site.allocation.nodes)
        return HighThroughputExecutor(
            **common, max_workers_per_node=per_node, cores_per_worker=1e-6, prefetch_capacity=0
        )

    def _provider(self) -> Any:
        import parsl.providers
        from parsl.launchers import SimpleLauncher, SingleNodeLauncher, SrunLauncher

        site = self._plan.site
        mpi = isinstance(site.start, MpiStart)
        blocks: dict[str, Any] = {"init_blocks": 1, "min_blocks": 1, "max_blocks": 1}
        init = "\n".join(filter(None, [site.allocation.worker_init, self._node_file() if mpi else ""]))
        match site.provider:
            case LocalProvider():
                launcher = SimpleLauncher() if mpi else SingleNodeLauncher()
                return parsl.providers.LocalProvider(**blocks, launcher=launcher, worker_init=init)
            case SlurmProvider() as slurm:
                return parsl.providers.SlurmProvider(
                    **blocks,
                    partition=slurm.partition,
                    account=slurm.account,
                    qos=slurm.qos,
                    constraint=slurm.constraint,
                    nodes_per_block=site.allocation.nodes,
                    walltime=_clock(float(site.allocation.walltime)),
                    scheduler_options=slurm.scheduler_options,
                    exclusive=slurm.exclusive,
                    launcher=SimpleLauncher() if mpi else SrunLauncher(),
                    worker_init=init,
                )
            case PbsProvider() as pbs:
                from parsl.launchers import MpiExecLauncher

                return parsl.providers.PBSProProvider(
                    **blocks,
                    queue=pbs.queue,
                    account=pbs.account,
                    select_options=pbs.select_options,
                    nodes_per_block=site.allocation.nodes,
                    walltime=_clock(float(site.allocation.walltime)),
                    scheduler_options=pbs.scheduler_options,
                    launcher=SimpleLauncher() if mpi else MpiExecLauncher(overrides="--ppn 1"),
                    worker_init=init,
                )

    def _node_file(self) -> str:
        """Parsl's MPI support wants a scheduler's list of nodes. Without a scheduler it gets one that names this
        machine once for each pool, since it gives no node to two MPI starts at once."""
        if not isinstance(self._plan.site.provider, LocalProvider):
            return ""
        path = self._run_dir / "nodes"
        path.write_text("localhost\n" * sum(self._plan.nodes_of(pool) for pool in self._plan.pools))
        return f"export PBS_NODEFILE={shlex.quote(str(path))}"

    def start(self, pool_name: str, *, on_end: Callable[[str, int | None, int | str], None]) -> None:
        """Start all ranks of a pool. `on_end(pool, rank, status)` is called from a Parsl thread for each rank that
        ends (rank None: the whole MPI start); status is an exit status, or what went wrong."""
        pool = self._plan.pool(pool_name)
        if isinstance(self._plan.site.start, MpiStart):
            self._watch(self._submit_mpi(pool_name), pool_name, None, on_end)
            return
        for place in self._plan.places(pool):
            errand = Errand(
                run_dir=str(self._run_dir),
                pool=pool_name,
                rank=place.rank,
                size=place.size,
                max_restarts=pool.restart.max_restarts,
                node_index=place.node_index,
                nodes=place.nodes,
                local_rank=place.local_rank,
                local_size=place.local_size,
            )
            self._watch(self._submit(keep, [errand]), pool_name, place.rank, on_end)

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
    def _watch(
        future: "Future[Any]",
        pool: str,
        rank: int | None,
        on_end: Callable[[str, int | None, int | str], None],
    ) -> None:
        def ended(done: "Future[Any]") -> None:
            error = done.exception()
            on_end(
                pool,
                rank,
                f"{type(error).__name__}: {error}" if error is not None else int(done.result() or 0),
            )

        future.add_done_callback(ended)


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}"
