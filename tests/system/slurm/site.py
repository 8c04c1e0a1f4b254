"""The site file of the lab, written as a user would write one."""

from pathlib import Path
from typing import Literal

from slurm.lab import SlurmLab

_SITE = """\
name = "lab"
description = "{count} virtual Slurm nodes on this machine"
run_root = "{run_root}"

[provider]
kind = "slurm"
partition = "debug"
exclusive = true

[start]
mode = "{mode}"

[allocation]
nodes = {nodes}
ranks_per_node = {ranks_per_node}
walltime = "{walltime}"

[network.beamline]
interfaces = ["lo"]

[network.cluster]
interfaces = ["{host}"]

[network.nodes]
interfaces = ["eth0"]

[network.ports]
first = {first_port}
last = {last_port}
"""


def write_site(
    lab: SlurmLab,
    folder: Path,
    *,
    mode: Literal["mpi", "workers"],
    nodes: int = 3,
    ranks_per_node: int = 2,
    walltime: str = "5 min",
    ports: tuple[int, int] = (30000, 30999),
) -> Path:
    """Write `lab.toml` into `folder`, run directories beside it; returns its path."""
    path = folder / "lab.toml"
    text = _SITE.format(
        count=len(lab.nodes),
        run_root=folder / "runs",
        mode=mode,
        nodes=nodes,
        ranks_per_node=ranks_per_node,
        walltime=walltime,
        host=lab.host_address,
        first_port=ports[0],
        last_port=ports[1],
    )
    path.write_text(text)
    return path
