"""A cluster on the far side of the two networks: PBS's commands, and an `mpiexec` that starts on the nodes.

The pretended PBS runs the job's script on the host of its caller; `mpiexec` in that script enters the namespace of
each node, as the real one goes to the nodes of the allocation. So the ranks live on node1 and node2 and see nothing
but their networks.
"""

import shlex
import sys
from pathlib import Path

from networks.separated import TwoNetworks
from pbs.lab import PbsLab
from requirements import REPOSITORY

# Parsl says `mpiexec --bind-to none --ppn 1 -n N --hostfile FILE /usr/bin/sh SCRIPT`: the last two count.
_MPIEXEC = """\
#!/bin/bash
while [ $# -gt 2 ]; do shift; done
{starts}
wait
"""

_SITE = """\
name = "two-networks"
run_root = "runs"

[provider]
kind = "pbs"

[start]
mode = "workers"

[allocation]
nodes = 2
ranks_per_node = {ranks_per_node}
walltime = "5 min"
worker_init = "export PATH={bin}:$PATH PYTHONPATH={path}"

[network.beamline]
interfaces = ["{beamline}"]

[network.cluster]
interfaces = ["{cluster}"]

[network.ports]
first = 30000
last = 30999
"""
_NODES = """
[network.nodes]
interfaces = ["eth0"]
"""


class Cluster:
    """The nodes of `networks` behind a batch system. `environment` is for whoever submits."""

    def __init__(self, networks: TwoNetworks, pbs: PbsLab) -> None:
        self._folder = pbs.folder
        self.environment = pbs.environment
        starts = "\n".join(
            f'PMI_RANK={number} {shlex.join(node.command([]))} "$@" &'
            for number, node in enumerate(networks.nodes)
        )
        mpiexec = self._bin / "mpiexec"
        mpiexec.write_text(_MPIEXEC.format(starts=starts))
        mpiexec.chmod(0o755)

    @property
    def _bin(self) -> Path:
        return self._folder / "bin"

    def write_site(
        self, folder: Path, *, beamline: str, cluster: str, ranks_per_node: int = 2, more: str = _NODES
    ) -> Path:
        """The site file for a controller on a host with these two interfaces; `more` is added as it is; by
        default the nodes can be reached."""
        path = folder / "two-networks.toml"
        text = _SITE.format(
            beamline=beamline,
            cluster=cluster,
            ranks_per_node=ranks_per_node,
            bin=f"{self._bin}:{Path(sys.executable).parent}",
            path=REPOSITORY / "src",
        )
        path.write_text(text + more)
        return path
