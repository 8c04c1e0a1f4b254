"""Ranks at a remote endpoint: one function for each run travels through Parsl's GlobusComputeExecutor and starts them.

The choice: no frame and no order goes through the service, which takes 10 MB a message and 20 requests in 10 s; it
starts ranks, and they connect to the beamline as all ranks do. One function in place of one for each rank, since a
running task can't be cancelled and an endpoint's workers say nothing about nodes; it runs the same lines that `sbatch`
would.

The SDK starts threads when it is imported, and signs in: so it is imported when a run needs it.
"""

import logging
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from beamcast.config.site import GlobusCompute
from beamcast.core.errors import UsageError
from beamcast.launch.plan import RunPlan
from beamcast.launch.seating import seating
from beamcast.launch.start.kernel import end_kernel
from beamcast.launch.start.start_script import start_body
from beamcast.launch.start.starts import Generations, OnEnd, OthersAllocation
from beamcast.members.host.parcel import Parcel, seal_parcel, start_ranks
from beamcast.members.join import SECRET_FILE, read_join

logger = logging.getLogger(__name__)

EXECUTOR = "globus"
_FILE = re.compile(r"(?P<file>.+\.py):[^:]+")


def sdk_executor(globus: GlobusCompute) -> Any:
    """The SDK's executor for an endpoint; UsageError when it is not installed."""
    try:
        from globus_compute_sdk import Executor
        from globus_compute_sdk.serialize import AllCodeStrategies, ComputeSerializer
    except ImportError as error:
        raise UsageError(
            "the executor globus-compute needs the SDK", hint="pip install 'beamcast[globus]'"
        ) from error
    # All strategies: the endpoint's Python may be another, where code that travels as byte code can't be read.
    serializer = ComputeSerializer(strategy_code=AllCodeStrategies())
    return Executor(
        endpoint_id=globus.endpoint, user_endpoint_config=dict(globus.options), serializer=serializer
    )


class GlobusStart(OthersAllocation):
    """Sends the parcel; the future ends when all ranks have. Use as a context manager."""

    def __init__(
        self,
        plan: RunPlan,
        run_dir: Path,
        *,
        make_executor: Callable[[GlobusCompute], Any] | None = None,
    ) -> None:
        assert plan.site.globus is not None, "check_site sees to it"
        self._plan = plan
        self._globus = plan.site.globus
        self._run_dir = run_dir
        self._make_executor = make_executor or sdk_executor
        self._kernel: Any = None

    def __enter__(self) -> Self:
        if self._globus.public_key is None:
            raise UsageError(
                "no public key of the site is given: secrets travel only sealed to it",
                hint="run `beamcast site-key` at the site, and give what it prints as globus.public_key",
            )
        executor = self._make_executor(self._globus)
        import parsl
        from parsl.dataflow.dflow import DataFlowKernel
        from parsl.executors import GlobusComputeExecutor

        self._kernel = DataFlowKernel(
            parsl.Config(
                executors=[GlobusComputeExecutor(executor=executor, label=EXECUTOR)],
                strategy="none",
                retries=0,
                run_dir=str(self._run_dir / "parsl"),
                initialize_logging=False,
                usage_tracking=0,
            )
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A function that still waits over there can't be taken back: its ranks will find nobody, and end."""
        end_kernel(self._kernel)
        self._kernel = None

    def start(self, allocation: int, generations: Generations, on_end: OnEnd) -> int:
        """Send the function. Its end is the end of all pools' starts."""
        from parsl import python_app

        app = python_app(start_ranks, data_flow_kernel=self._kernel, executors=[EXECUTOR])
        future: Future[Any] = app(self._sealed(), self._globus.key_file, self._globus.run_root)
        future.add_done_callback(lambda done: self._ended(done, allocation, on_end))
        logger.info("a function that starts the ranks is on its way to endpoint %s", self._globus.endpoint)
        return len(self._plan.pools)

    def _sealed(self) -> str:
        assert self._globus.public_key is not None
        parcel = Parcel(
            run=self._plan.run,
            join=read_join(self._run_dir),
            secret=(self._run_dir / SECRET_FILE).read_text(encoding="utf-8").strip(),
            seats=seating(self._plan),
            script=start_body(self._plan),
            files=processor_files(self._plan),
        )
        return seal_parcel(parcel, self._globus.public_key)

    def _ended(self, done: "Future[Any]", allocation: int, on_end: OnEnd) -> None:
        if done.cancelled():
            status: int | str = "its start was cancelled"
        elif (error := done.exception()) is not None:
            status = f"{type(error).__name__}: {error}"
        else:
            result = done.result()
            status = int(result["status"])
            self._keep_logs(result["logs"])
        for pool in self._plan.pools:
            on_end(allocation, pool.name, None, status)

    def _keep_logs(self, logs: Mapping[str, str]) -> None:
        """The ends of the logs from over there, beside our own."""
        for name, text in logs.items():
            (self._run_dir / "logs" / f"remote-{Path(name).name}").write_text(text, encoding="utf-8")


def processor_files(plan: RunPlan) -> dict[str, bytes]:
    """The users' processor files, by their path from the workflow file; those of packages are installed over there."""
    names = {match["file"] for pool in plan.pools if (match := _FILE.fullmatch(pool.processor))}
    outside = sorted(name for name in names if Path(name).is_absolute() or ".." in Path(name).parts)
    if outside:
        raise UsageError(
            f"{', '.join(outside)}: only files beside the workflow file, or below it, can travel",
            hint="move them there, or install them at the site and name them as package.module:Class",
        )
    return {name: (plan.base / name).read_bytes() for name in sorted(names)}
