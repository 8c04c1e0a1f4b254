"""A throw-away Slurm on this machine: real daemons, virtual nodes with address and host name of their own.

Everything lies in one folder and in namespaces: no /etc/slurm, no /etc/hosts, no system service, no accounting
database. The machine itself plays the login node (and the beamline); it is .254 in the lab's network. Nodes see the
same files as the machine does.
"""

import os
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from networks.namespace import Namespace, free_subnet, free_tcp_port, run
from slurm.conf import LabShape, Tracking
from slurm.daemons import end_daemon, output, remove_cgroups, start_controller, start_munge, tail

UP_TIMEOUT_S = 20.0
EMPTY_TIMEOUT_S = 10.0
LINK_DEADLINE_S = 20.0


class SlurmLab:
    """The lab; a context manager that leaves neither daemon, namespace, bridge nor cgroup behind."""

    def __init__(
        self, folder: Path, *, nodes: int = 3, cpus_per_node: int = 4, tracking: Tracking = "cgroup"
    ) -> None:
        self.shape = LabShape(
            folder=folder,
            controller_host=socket.gethostname().split(".")[0],
            controller_port=free_tcp_port(),
            subnet=free_subnet(),
            nodes=nodes,
            cpus_per_node=cpus_per_node,
            tracking=tracking,
        )
        self._bridge = f"bcbr{self.shape.subnet.split('.')[1]}"
        self._spaces: dict[str, Namespace] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._write_files()
            self._make_network(stack)
            self._start_daemons(stack)
            self._wait_idle()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # -- what tests use --------------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to submit here, and its jobs inherit."""
        return {"SLURM_CONF": str(self.shape.folder / "slurm.conf")}

    @property
    def nodes(self) -> tuple[str, ...]:
        """Host names of the nodes."""
        return self.shape.node_names

    @property
    def host_address(self) -> str:
        """This machine's address as nodes see it."""
        return self.shape.host_address

    def command(self, *words: str, timeout_s: float = 20) -> str:
        """Run a scheduler command (sbatch, squeue, …) and return what it prints."""
        return output(list(words), self.environment, timeout_s=timeout_s)

    def jobs(self) -> list[str]:
        """Ids of the jobs that wait or run."""
        return self.command("squeue", "-h", "-o", "%A").split()

    def job_state(self, job: str) -> str:
        """Slurm's word on a job, such as RUNNING or CANCELLED; Slurm keeps it for five minutes."""
        words = self.command("scontrol", "-o", "show", "job", job).split()
        return next(word.partition("=")[2] for word in words if word.startswith("JobState="))

    def node_down(self, node: str) -> None:
        """Cut a node off: its link goes away, its processes live on. Slurm notices after ten seconds."""
        self._spaces[node].set_link("eth0", up=False)

    def node_up(self, node: str) -> None:
        """Give the node its link back."""
        self._spaces[node].set_link("eth0", up=True)
        self._spaces[node].ip("route", "replace", "default", "via", self.host_address)
        # Left alone, it comes back when it registers again, which may take a minute.
        if "down" in self.command("sinfo", "-h", "-n", node, "-o", "%T"):
            self.command("scontrol", "update", f"nodename={node}", "state=resume")

    def leftovers(self, node: str) -> list[str]:
        """Command lines of the processes on a node that are not Slurm's own: what a job left behind."""
        lines = []
        for pid in self._spaces[node].pids():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            line = b" ".join(words).decode(errors="replace").strip()
            if line and "slurmd" not in line and "slurmstepd" not in line:
                lines.append(f"{pid} {line}")
        return lines

    def end_processes(self, node: str, ending: str) -> None:
        """SIGKILL to the leftovers on a node whose command line ends so, and wait until they are gone."""
        while lines := [line for line in self.leftovers(node) if line.endswith(ending)]:
            for line in lines:
                with suppress(ProcessLookupError):
                    os.kill(int(line.split()[0]), signal.SIGKILL)
            time.sleep(0.02)

    def wait_no_jobs(self) -> None:
        """Wait until no job waits, runs or is being ended, which takes a moment after it was cancelled."""
        deadline = time.monotonic() + EMPTY_TIMEOUT_S
        while jobs := self.jobs():
            if time.monotonic() > deadline:
                raise RuntimeError(f"jobs are left: {jobs}")
            time.sleep(0.1)

    def wait_empty(self, node: str) -> None:
        """Wait until a node that was cut off has ended what ran there, and takes jobs again."""
        deadline = time.monotonic() + LINK_DEADLINE_S + EMPTY_TIMEOUT_S
        idle = ["sinfo", "-h", "-N", "-n", node, "-o", "%T"]
        while self.leftovers(node) or "idle" not in self.command(*idle).split():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{node} is not empty: {self.leftovers(node)}, {self.command(*idle)}")
            time.sleep(0.1)

    def clear(self) -> None:
        """Cancel all jobs and wait until none is left: between tests that share the lab."""
        deadline = time.monotonic() + EMPTY_TIMEOUT_S
        for job in self.jobs():
            self.command("scancel", job)
        while self.jobs() and time.monotonic() < deadline:
            time.sleep(0.1)

    # -- up and down -----------------------------------------------------------------------------------------------

    def _write_files(self) -> None:
        shape = self.shape
        for name in ("state", "log", "pid"):
            (shape.folder / name).mkdir(parents=True)
        for node in shape.node_names:
            (shape.folder / f"spool.{node}").mkdir()
            (shape.folder / f"tmp.{node}").mkdir()
        (shape.folder / "slurm.conf").write_text(shape.slurm_conf())
        (shape.folder / "cgroup.conf").write_text(shape.cgroup_conf())
        (shape.folder / "hosts").write_text(shape.hosts())

    def _make_network(self, stack: ExitStack) -> None:
        run("ip", "link", "add", self._bridge, "type", "bridge")
        stack.callback(run, "ip", "link", "del", self._bridge)
        run("ip", "addr", "add", f"{self.host_address}/24", "dev", self._bridge)
        run("ip", "link", "set", self._bridge, "up")
        for node in self.nodes:
            space = Namespace(self._bridge.removeprefix("bc"), node, hosts_file=self.shape.folder / "hosts")
            self._spaces[node] = stack.enter_context(space)
            port = f"{self._bridge}{node.removeprefix('node')}"
            _forget_link(port)
            run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space.name)
            run("ip", "link", "set", port, "master", self._bridge, "up")
            space.add_address("eth0", f"{self.shape.address(node)}/24")
            space.ip("route", "add", "default", "via", self.host_address)

    def _start_daemons(self, stack: ExitStack) -> None:
        stack.callback(remove_cgroups, self.nodes)
        # Before the cgroups go: an orphan of a job keeps its group busy, and namespaces end their own too late.
        stack.callback(self._end_orphans)
        stack.callback(end_daemon, start_munge(self.shape))
        stack.callback(end_daemon, start_controller(self.shape))
        for node, space in self._spaces.items():
            stack.callback(end_daemon, self.shape.folder / "pid" / f"slurmd.{node}.pid")
            done = space.run("slurmd", "-N", node, "-f", self.environment["SLURM_CONF"])
            if done.returncode:
                raise RuntimeError(f"slurmd on {node}: {done.stderr}{self._logs()}")
        stack.callback(self._clear_quietly)

    def _clear_quietly(self) -> None:
        try:
            self.clear()
        except RuntimeError as error:
            print(f"the lab's jobs could not be cancelled: {error}")

    def _end_orphans(self) -> None:
        for space in self._spaces.values():
            space.end_processes()

    def _wait_idle(self) -> None:
        deadline = time.monotonic() + UP_TIMEOUT_S
        while self.command("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split() != list(self.nodes):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the nodes are not idle within {UP_TIMEOUT_S:g} s{self._logs()}")
            time.sleep(0.05)

    def _logs(self) -> str:
        return "".join(
            f"\n--- {log.name}\n{tail(log)}" for log in sorted((self.shape.folder / "log").iterdir())
        )


def _forget_link(name: str) -> None:
    """The kernel takes its time to remove a link whose other end went with its namespace."""
    deadline = time.monotonic() + LINK_DEADLINE_S
    while Path(f"/sys/class/net/{name}").exists():
        subprocess.run(["ip", "link", "del", name], capture_output=True, check=False)
        assert time.monotonic() < deadline, f"the link {name} of an earlier lab does not go"
        time.sleep(0.1)
