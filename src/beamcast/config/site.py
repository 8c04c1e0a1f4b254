"""The site file: where a run happens. Everything that differs between facilities, and nothing else."""

from typing import Annotated, Literal

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
    gpus_per_node: Annotated[
        Count | None, Meta(description="GPUs to ask for on each node; absent: none are asked for")
    ] = None


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
            ge=0,
            description="further allocations that are asked for when one ends early, so that its ranks go on there",
        ),
    ] = 0
    margin: Annotated[
        Seconds, Meta(description="how long before its walltime ends an allocation is left: the run drains")
    ] = Seconds(60.0)
    handover: Annotated[
        bool,
        Meta(description="ask for the next allocation before the walltime ends, and move the ranks there"),
    ] = False
    handover_lead: Annotated[
        Seconds, Meta(description="handover: ask so long before the margin; the next one waits in the queue")
    ] = Seconds(600.0)
    modules: Annotated[
        tuple[str, ...],
        Meta(description="environment modules to load on a node, in order, before worker_init"),
    ] = ()
    environment: Annotated[
        dict[str, str], Meta(description="variables to set on a node, before worker_init")
    ] = msgspec.field(default_factory=dict)
    worker_init: Annotated[
        str, Meta(description="shell lines that prepare a node, such as activating a Python environment")
    ] = ""


class WorkersStart(Struct, tag_field="mode", tag="workers", frozen=True, kw_only=True):
    """One Parsl task for each rank; a dead rank is restarted alone."""

    bind_option: Annotated[
        str,
        Meta(
            description="pbs: the option of mpiexec to which `none` is given, so that it binds no worker to a core"
        ),
    ] = "--bind-to"
    overrides: Annotated[
        str | None,
        Meta(
            description="further arguments of the mpiexec or srun that starts one manager on each node; absent: what "
            "the provider needs"
        ),
    ] = None


class MpiStart(Struct, tag_field="mode", tag="mpi", frozen=True, kw_only=True):
    """One MPI start for each pool; ranks learn their place from mpi4py."""

    launcher: Annotated[str, Meta(description="the command that starts MPI ranks: mpiexec or srun")] = (
        "mpiexec"
    )
    options: Annotated[
        tuple[str, ...],
        Meta(description="further arguments of the launcher, such as how it binds ranks to CPUs"),
    ] = ()


Start = WorkersStart | MpiStart


class Node(Struct, frozen=True, kw_only=True):
    """What one node has, and how the ranks of a pool on it share it out. Ranks bind themselves under every launcher."""

    cpus: Annotated[
        Count | None,
        Meta(description="CPUs (hardware threads) to ask the scheduler for; absent: its default"),
    ] = None
    gpus: Annotated[
        tuple[str, ...],
        Meta(
            description="names of the GPUs, as `gpu_variable` wants them, in the order in which local ranks get one "
            "each; empty: none"
        ),
    ] = ()
    gpu_variable: Annotated[
        str,
        Meta(
            description="the variable that shows a rank its GPU: CUDA_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES, "
            "ZE_AFFINITY_MASK"
        ),
    ] = "CUDA_VISIBLE_DEVICES"
    cpu_sets: Annotated[
        tuple[str, ...],
        Meta(
            description="CPUs next to each GPU, such as '24-31,56-63', in the order of `gpus`; without GPUs, those of "
            "each local rank; empty: ranks are not bound"
        ),
    ] = ()
    scratch: Annotated[
        str | None,
        Meta(
            description="folder on the node's disk for temporary files (TMPDIR of ranks); absent: the node's default"
        ),
    ] = None


class GlobusCompute(Struct, frozen=True, kw_only=True):
    """An endpoint that starts the ranks far away. docs/how-to/globus-compute.md says how it is set up."""

    endpoint: Annotated[str, Meta(description="the endpoint's id, a UUID")]
    public_key: Annotated[
        str | None,
        Meta(
            description="the site's X25519 public key, in hexadecimal: all that is secret is sealed to it; absent: "
            "nothing can be started"
        ),
    ] = None
    key_file: Annotated[
        str, Meta(description="the site's private key, on the endpoint's nodes; only its owner may read it")
    ] = "~/.beamcast/site.key"
    run_root: Annotated[
        str, Meta(description="folder for run directories over there; all nodes of an allocation must see it")
    ] = "~/.beamcast/runs"
    options: Annotated[
        dict[str, object],
        Meta(description="values for the endpoint's user template, such as account and queue"),
    ] = msgspec.field(default_factory=dict)


Executor = Literal["parsl", "external", "globus-compute"]


class Face(Struct, frozen=True, kw_only=True):
    """How the beamline side is reached from one side: the first candidate that exists wins."""

    interfaces: Annotated[
        tuple[str, ...], Meta(description="network interfaces or addresses, in order of preference")
    ] = ("lo",)


class NodesFace(Face, frozen=True, kw_only=True):
    """How the nodes are reached."""

    reachable: Annotated[
        bool,
        Meta(
            description="whether the beamline side may open connections to nodes; false: ranks only connect outwards, "
            "and push their results"
        ),
    ] = True


class Ports(Struct, frozen=True, kw_only=True):
    """The range from which ports are leased."""

    first: Annotated[int, Meta(ge=1024, le=65535, description="lowest port")] = 20000
    last: Annotated[int, Meta(ge=1024, le=65535, description="highest port, itself included")] = 29999


class Tls(Struct, frozen=True, kw_only=True):
    """Certificates of both ends of an encrypted forwarder: each shows its own and wants the other's."""

    ca: Annotated[str, Meta(description="file with the certificate authority that both ends trust")]
    certificate: Annotated[str, Meta(description="certificate file of the end at hand")]
    key: Annotated[str, Meta(description="key file of the end at hand; only its owner may read it")]
    peer: Annotated[
        str | None,
        Meta(description="host name that the other end's certificate must have; absent: any of the CA's"),
    ] = None


class Forwarder(Struct, frozen=True, kw_only=True):
    """Passes TCP connections of the nodes on to the beamline side, each to the port of the same number."""

    kind: Annotated[
        Literal["haproxy", "stunnel", "other"],
        Meta(
            description="haproxy, stunnel (TLS on the way), or other: SciStream, ssh, whatever keeps port numbers"
        ),
    ]
    host: Annotated[str, Meta(min_length=1, description="the address at which the nodes reach it")]
    ports: Annotated[Ports, Meta(description="the ports that it passes on")] = Ports(first=20000, last=20015)
    target: Annotated[
        str | None,
        Meta(
            description="where it connects to: the cluster-facing address of the host that runs beamcast, or the "
            "beamline's end of stunnel"
        ),
    ] = None
    tls: Annotated[Tls | None, Meta(description="stunnel: its certificates")] = None


class Network(Struct, frozen=True, kw_only=True):
    """Addresses and ports."""

    beamline: Annotated[Face, Meta(description="faces the detector and the beamline's clients")] = Face()
    cluster: Annotated[Face, Meta(description="faces the nodes: where ranks reach mirror and controller")] = (
        Face()
    )
    nodes: Annotated[NodesFace, Meta(description="interfaces of the nodes on which ranks serve")] = (
        NodesFace()
    )
    ports: Ports = Ports()
    forwarder: Annotated[
        Forwarder | None, Meta(description="what stands between nodes and beamline; absent: nothing")
    ] = None
    proxy: Annotated[dict[str, str], Meta(description="proxy variables for the nodes")] = msgspec.field(
        default_factory=dict
    )


class Site(Struct, frozen=True, kw_only=True):
    """One site file."""

    name: Name
    description: Annotated[str, Meta(description="a line for people")] = ""
    executor: Annotated[
        Executor,
        Meta(
            description="who starts the ranks: parsl submits and starts; external: you submit a script that is "
            "written; globus-compute: an endpoint far away"
        ),
    ] = "parsl"
    globus: Annotated[
        GlobusCompute | None, Meta(description="the endpoint, where the executor is globus-compute")
    ] = None
    provider: Annotated[Provider, Meta(description="who gives the nodes")] = msgspec.field(
        default_factory=LocalProvider
    )
    start: Annotated[Start, Meta(description="how ranks are started on them")] = msgspec.field(
        default_factory=WorkersStart
    )
    allocation: Allocation = Allocation()
    node: Node = Node()
    network: Network = Network()
    run_root: Annotated[str, Meta(description="folder for run directories; nodes must see it")] = "runs"
