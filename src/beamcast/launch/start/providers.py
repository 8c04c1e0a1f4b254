"""Parsl's providers, made from a site. Imports Parsl, so import this module where it is needed."""

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from parsl.launchers import MpiExecLauncher, SimpleLauncher, SingleNodeLauncher, SrunLauncher
from parsl.providers import LocalProvider as ParslLocalProvider
from parsl.providers import PBSProProvider, SlurmProvider
from parsl.providers.errors import SubmitException

from beamcast.config.site import LocalProvider, MpiStart, PbsProvider, Site, Start
from beamcast.config.site import SlurmProvider as SlurmSite
from beamcast.launch.jobs.submission import PBS, SLURM, Answer, Language, NotUnderstood, shell, submit
from beamcast.launch.start.node_lines import clock, slurm_lines, srun_options


class Asking:
    """For a provider that submits and cancels only: we ask the scheduler ourselves (`beamcast.launch.jobs.watch`),
    for Parsl takes a job that is not listed any more for completed. Keeps what the scheduler says when it refuses."""

    language: Language
    cmd_timeout: float

    @cached_property
    def refused(self) -> list[str]:
        """A sentence for each refusal, with the scheduler's words."""
        return []

    @property
    def status_polling_interval(self) -> int:
        """0: Parsl does not ask."""
        return 0

    def submit(self, command: str, tasks_per_node: int, job_name: str = "beamcast") -> Any:
        """As the provider's own."""
        try:
            return super().submit(command, tasks_per_node, job_name)  # type: ignore[misc] # a provider is beside us
        except SubmitException as error:
            words = str(error.stderr or error.stdout or error.message).strip()
            self.refused.append(f"the scheduler refuses the job: {words}")
            raise
        except NotUnderstood as trouble:
            self.refused.append(str(trouble))
            raise

    def execute_wait(self, cmd: str, timeout: float | None = None) -> Answer:
        """As the provider's own, whose answers are decoded strictly; a job that was taken is found in any case."""
        if cmd.split()[0] == self.language.submit:
            return submit(self.language, cmd)
        return shell(cmd, timeout_s=timeout or self.cmd_timeout)


class OwnLocal(ParslLocalProvider):  # type: ignore[misc]
    """Processes of this machine."""

    def cancel(self, job_ids: Sequence[str]) -> list[bool]:
        """End a block with all of its processes. Parsl's own asks `ps` for their group, which slim containers lack."""
        for job in job_ids:
            self.resources[job]["cancelled"] = True
            with suppress(ProcessLookupError):
                group = os.getpgid(self.resources[job]["remote_pid"])
                if group != os.getpgrp():
                    os.killpg(group, signal.SIGTERM)
        return [True for _ in job_ids]


class OwnSlurm(Asking, SlurmProvider):  # type: ignore[misc] # Parsl has no type information
    """Slurm."""

    language = SLURM


class OwnPbs(Asking, PBSProProvider):  # type: ignore[misc]
    """PBS Pro."""

    language = PBS


class FirstNode(SimpleLauncher):  # type: ignore[misc]
    """One manager, on the first node of the block, whatever its size: what an MPI start wants. Parsl's own launcher
    does the same, with a warning that means others."""

    def __call__(self, command: str, tasks_per_node: int, nodes_per_block: int, script_dir: str = "") -> str:
        """The shell lines of the block."""
        return str(super().__call__(command, tasks_per_node, 1, script_dir))


def make_provider(site: Site, *, worker_init: str) -> Any:
    """The provider of a site: one allocation, exactly. Under an MPI start the block has one manager, on its first
    node, since `mpiexec` starts the rest; otherwise each node has one."""
    mpi = isinstance(site.start, MpiStart)
    # No block by itself: each is asked for when we want it, and its refusal is heard.
    common: dict[str, Any] = {"init_blocks": 0, "min_blocks": 0, "max_blocks": 1, "worker_init": worker_init}
    match site.provider:
        case LocalProvider():
            return OwnLocal(**common, launcher=FirstNode() if mpi else SingleNodeLauncher())
        case SlurmSite() as slurm:
            return OwnSlurm(
                **common,
                partition=slurm.partition,
                account=slurm.account,
                qos=slurm.qos,
                constraint=slurm.constraint,
                nodes_per_block=site.allocation.nodes,
                walltime=clock(float(site.allocation.walltime)),
                # A node that fails must end the job: requeued, it would start again without a controller.
                scheduler_options="\n".join(["#SBATCH --no-requeue", *slurm_lines(site, slurm)]),
                exclusive=slurm.exclusive,
                launcher=FirstNode() if mpi else SrunLauncher(overrides=srun_options(site)),
            )
        case PbsProvider() as pbs:
            return OwnPbs(
                **common,
                queue=pbs.queue,
                account=pbs.account,
                select_options=pbs.select_options,
                nodes_per_block=site.allocation.nodes,
                walltime=clock(float(site.allocation.walltime)),
                scheduler_options=pbs.scheduler_options,
                **({"cpus_per_node": site.node.cpus} if site.node.cpus is not None else {}),
                launcher=_mpiexec(site.start),
            )


def _mpiexec(start: Start) -> Any:
    if isinstance(start, MpiStart):
        return FirstNode()
    overrides = "--ppn 1" if start.overrides is None else start.overrides
    return MpiExecLauncher(bind_cmd=start.bind_option, overrides=overrides)
