"""Giving a rank its GPU and CPUs on its node, and asking what it really has.

The choice: ranks are bound by us and not by `mpiexec` or `srun`, since every launcher spells it differently and the
start mode `workers` has none. The keeper binds itself before it starts the rank, so that the rank's first thread, and
what its libraries count, are right from the beginning.
"""

import logging
import os
from collections.abc import Mapping

import msgspec

from beamcast.core.hardware import Share, format_cpus, parse_cpus, share_of

logger = logging.getLogger(__name__)

# Names of the variables by which the keeper tells its rank what it was given.
GPU_INDEX = "BEAMCAST_GPU_INDEX"
GPU_NAME = "BEAMCAST_GPU"


class NodeShare(msgspec.Struct, frozen=True, kw_only=True):
    """How the ranks of one pool share out a node: the site's [node], as far as the pool wants it."""

    gpus: tuple[str, ...] = ()
    gpu_variable: str = "CUDA_VISIBLE_DEVICES"
    cpu_sets: tuple[str, ...] = ()
    scratch: str | None = None

    def of(self, local_rank: int, local_size: int) -> Share:
        """The share of one rank; ValueError as `share_of`."""
        return share_of(local_rank, local_size, gpus=self.gpus, cpu_sets=self.cpu_sets)


def rank_environment(node: NodeShare, share: Share) -> dict[str, str]:
    """The variables of a rank that has this share."""
    variables: dict[str, str] = {}
    if share.gpu is not None:
        variables |= {node.gpu_variable: share.gpu_name, GPU_INDEX: str(share.gpu), GPU_NAME: share.gpu_name}
    if node.scratch is not None:
        variables["TMPDIR"] = os.path.expandvars(node.scratch)
    return variables


def bind(share: Share) -> None:
    """Bind this thread, and with it what it starts, to the CPUs of a share, as far as this process may use them.

    A scheduler that gave the job other CPUs is obeyed: then the rank stays where it is, and the report shows where.
    """
    if not share.cpus or not hasattr(os, "sched_setaffinity"):
        return
    wanted, allowed = parse_cpus(share.cpus), os.sched_getaffinity(0)
    if not wanted & allowed:
        logger.warning("none of CPUs %s may be used here, only %s", share.cpus, format_cpus(allowed))
        return
    os.sched_setaffinity(0, wanted & allowed)


def bound_cpus() -> str:
    """The CPUs that this process may use, such as "0-7,64-71"; empty where the system does not say."""
    return format_cpus(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else ""


def given_gpu(environment: Mapping[str, str]) -> tuple[int | None, str]:
    """The GPU that the keeper gave this rank: its place in the site's list and its name."""
    index = environment.get(GPU_INDEX, "")
    return (int(index), environment.get(GPU_NAME, "")) if index.isdecimal() else (None, "")
