"""The site file: where a run happens. Everything that differs between facilities, and nothing else."""

from typing import Annotated

import msgspec
from msgspec import Meta

from beamcast.config.units import Seconds
from beamcast.config.workflow import Count, Name, Struct


class LocalProvider(Struct, tag_field="kind", tag="local", frozen=True, kw_only=True):
    """Processes on this machine."""


class SlurmProvider(Struct, tag_field="kind", tag="slurm", frozen=True, kw_only=True):
    """Allocations of a Slurm cluster."""

    partition: Annotated[str | None, Meta(description="absent: the cluster's default partition")] = None
    account: Annotated[str | None, Meta(description="whom the time is charged to; absent: the default")] = (
        None
    )
    qos: Annotated[str | None, Meta(description="quality of service; absent: the default")] = None
    constraint: Annotated[str | None, Meta(description="features that nodes must have, such as gpu")] = None
    scheduler_options: Annotated[str, Meta(description="lines for the batch script, each with #SBATCH")] = ""
    exclusive: Annotated[bool, Meta(description="nodes are not shared with other jobs")] = True


class PbsProvider(Struct, tag_field="kind", tag="pbs", frozen=True, kw_only=True):
    """Allocations of a PBS Pro cluster."""

    queue: Annotated[str | None, Meta(description="absent: the cluster's default queue")] = None
    account: Annotated[str | None, Meta(description="whom the time is charged to; absent: the default")] = (
        None
    )
    select_options: Annotated[str, Meta(description="what follows select=N:")] = ""
    scheduler_options: Annotated[str, Meta(description="lines for the batch script, each with #PBS")] = ""


Provider = LocalProvider | SlurmProvider | PbsProvider


class Allocation(Struct, frozen=True, kw_only=True):
    """What one batch allocation (a Parsl block) looks like."""

    nodes: Annotated[Count, Meta(description="nodes of one allocation")] = 1
    walltime: Annotated[Seconds, Meta(description="how long the scheduler lets it run")] = Seconds(3600.0)
    ranks_per_node: Annotated[Count | None, Meta(description="absent: spread evenly")] = None
    replacements: Annotated[
        int,
        Meta(
            ge=0, description="further allocations to ask for when one ends early; start mode 'workers' only"
        ),
    ] = 0
    worker_init: Annotated[str, Meta(description="shell lines that prepare a node: modules, environment")] = (
        ""
    )


class WorkersStart(Struct, tag_field="mode", tag="workers", frozen=True, kw_only=True):
    """One Parsl task for each rank; a dead rank is restarted alone."""


class MpiStart(Struct, tag_field="mode", tag="mpi", frozen=True, kw_only=True):
    """One MPI start for each pool; ranks learn their place from mpi4py."""

    launcher: Annotated[str, Meta(description="the command that starts MPI ranks: mpiexec or srun")] = (
        "mpiexec"
    )
    options: Annotated[tuple[str, ...], Meta(description="further arguments of the launcher")] = ()


Start = WorkersStart | MpiStart


class Face(Struct, frozen=True, kw_only=True):
    """How the beamline side is reached from one side: the first candidate that exists wins."""

    interfaces: Annotated[
        tuple[str, ...], Meta(description="network interfaces or addresses, in order of preference")
    ] = ("lo",)


class Ports(Struct, frozen=True, kw_only=True):
    """The range from which ports are leased."""

    first: Annotated[int, Meta(ge=1024, le=65535, description="lowest port")] = 20000
    last: Annotated[int, Meta(ge=1024, le=65535, description="highest port, itself included")] = 29999


class Network(Struct, frozen=True, kw_only=True):
    """Addresses and ports."""

    beamline: Annotated[Face, Meta(description="faces the detector and the beamline's clients")] = Face()
    cluster: Annotated[Face, Meta(description="faces the nodes: where ranks reach mirror and controller")] = (
        Face()
    )
    nodes: Annotated[Face, Meta(description="interfaces of the nodes on which ranks serve")] = Face()
    ports: Ports = Ports()
    proxy: Annotated[dict[str, str], Meta(description="proxy variables for the nodes")] = msgspec.field(
        default_factory=dict
    )


class Site(Struct, frozen=True, kw_only=True):
    """One site file."""

    name: Name
    description: Annotated[str, Meta(description="a line for people")] = ""
    provider: Annotated[Provider, Meta(description="who gives the nodes")] = msgspec.field(
        default_factory=LocalProvider
    )
    start: Annotated[Start, Meta(description="how ranks are started on them")] = msgspec.field(
        default_factory=WorkersStart
    )
    allocation: Allocation = Allocation()
    network: Network = Network()
    run_root: Annotated[str, Meta(description="folder for run directories; nodes must see it")] = "runs"
