"""The text of the lab's slurm.conf and cgroup.conf. Pure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Tracking = Literal["cgroup", "linuxproc"]
SLURMD_PORT = 16820


@dataclass(frozen=True, slots=True)
class LabShape:
    """What the lab looks like. `subnet` is a /24 network, "10.111.0": nodes are .1, .2, …, this machine is .254.

    `tracking`: how Slurm knows the processes of a job. "cgroup" finds all of them; "linuxproc" knows children
    only and leaves every orphan behind, so a rank that does not die with its parent shows.
    """

    folder: Path
    controller_host: str
    controller_port: int
    subnet: str
    nodes: int
    cpus_per_node: int
    tracking: Tracking

    @property
    def host_address(self) -> str:
        """This machine's address in the lab's network."""
        return f"{self.subnet}.254"

    @property
    def node_names(self) -> tuple[str, ...]:
        """Host names of the nodes."""
        return tuple(f"node{number}" for number in range(1, self.nodes + 1))

    def address(self, node: str) -> str:
        """A node's address."""
        return f"{self.subnet}.{self.node_names.index(node) + 1}"

    @property
    def munge_socket(self) -> Path:
        """Where munged listens: its own, not the machine's."""
        return self.folder / "munge" / "socket"

    def hosts(self) -> str:
        """The nodes' /etc/hosts."""
        lines = [f"{self.address(node)} {node}" for node in self.node_names]
        return "\n".join(["127.0.0.1 localhost", f"{self.host_address} {self.controller_host}", *lines, ""])

    def slurm_conf(self) -> str:
        """The configuration of all daemons and commands."""
        nodes = [
            f"NodeName={node} NodeAddr={self.address(node)} Port={SLURMD_PORT} CPUs={self.cpus_per_node} "
            "RealMemory=4000 State=UNKNOWN"
            for node in self.node_names
        ]
        return _SLURM_CONF.format(shape=self, folder=self.folder) + "\n".join(nodes) + _PARTITION

    @staticmethod
    def cgroup_conf() -> str:
        """Read with tracking by cgroup only. Version 1: version 2 wants systemd."""
        return "CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nCgroupAutomount=no\n"


# No accounting database, as on a fresh cluster: Parsl then asks squeue. `config_overrides` lets nodes have more CPUs
# than the machine. Short scheduler intervals keep submit-to-running near one second.
_SLURM_CONF = """\
ClusterName=lab
SlurmctldHost={shape.controller_host}({shape.host_address})
SlurmUser=root
SlurmdUser=root
SlurmctldPort={shape.controller_port}
AuthType=auth/munge
AuthInfo=socket={shape.munge_socket}
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
TmpFS={folder}/tmp.%n
SlurmctldPidFile={folder}/pid/slurmctld.pid
SlurmdPidFile={folder}/pid/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
SlurmctldDebug=info
SlurmdDebug=info
ProctrackType=proctrack/{shape.tracking}
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=0
ReturnToService=2
SlurmdParameters=config_overrides
MinJobAge=300
KillWait=5
InactiveLimit=0
SlurmctldTimeout=30
SlurmdTimeout=10
MailProg=/bin/true
PropagateResourceLimits=NONE
"""
_PARTITION = "\nPartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO\n"
