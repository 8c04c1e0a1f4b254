"""One virtual machine's worth of isolation: a network namespace with a host name and a hosts file of its own.

`ip netns exec` is not used: it mounts another /sys, which hides the cgroups that slurmd needs. Everything that is
started inside is found again by asking the kernel who lives in the namespace, so nothing can escape by forking.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NETNS = Path("/run/netns")
# Names end in the pid of the session that made them, so that leftovers of a killed one are recognised.
_OURS = re.compile(r"^bc-.*-p(\d+)$")


def run(*words: str) -> str:
    """Run a set-up command and return its output; RuntimeError with what it said when it fails."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def sweep() -> None:
    """Remove namespaces (and the processes in them) that a killed test session left behind."""
    for path in NETNS.glob("bc-*") if NETNS.is_dir() else ():
        match = _OURS.match(path.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            _remove(path.name)


def _remove(full_name: str) -> None:
    """End the processes in a namespace, then delete it; its interfaces go with it. Another session may be quicker."""
    _end_processes(full_name)
    try:
        run("ip", "netns", "del", full_name)
    except RuntimeError:
        if (NETNS / full_name).exists():
            raise


def _end_processes(full_name: str) -> None:
    deadline = time.monotonic() + 5
    while pids := _pids(full_name):
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes in {full_name} do not end: {pids}")
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


def _pids(full_name: str) -> list[int]:
    if not (NETNS / full_name).exists():
        return []
    try:
        return [int(word) for word in run("ip", "netns", "pids", full_name).split()]
    except RuntimeError:
        if (NETNS / full_name).exists():
            raise
        return []


class Namespace:
    """One namespace; a context manager that leaves nothing behind, processes included."""

    def __init__(self, lab: str, host: str, *, hosts_file: Path) -> None:
        self.host = host
        self.name = f"bc-{lab}-{host}-p{os.getpid()}"
        self._hosts_file = hosts_file
        self._started: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> Self:
        sweep()
        run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _remove(self.name)
        for process in self._started:
            process.wait(5)

    def ip(self, *words: str) -> str:
        """The `ip` command in this namespace."""
        return run("ip", "-n", self.name, *words)

    def add_address(self, interface: str, address: str) -> None:
        """Give an interface an address such as "10.1.0.1/24" and bring it up."""
        self.ip("addr", "add", address, "dev", interface)
        self.ip("link", "set", interface, "up")

    def set_link(self, interface: str, *, up: bool) -> None:
        """Take a link away, or give it back. Routes through it are lost with it, except those of its own net."""
        self.ip("link", "set", interface, "up" if up else "down")

    def command(self, words: Sequence[str]) -> list[str]:
        """The command line that runs `words` in here, with this host name and hosts file."""
        script = 'hostname "$0"; mount --bind "$1" /etc/hosts; shift; exec "$@"'
        inside = ["sh", "-c", script, self.host, str(self._hosts_file), *words]
        private = ["unshare", "--uts", "--mount", "--propagation", "private"]
        return ["nsenter", f"--net={NETNS / self.name}", *private, *inside]

    def run(
        self, *words: str, environment: Mapping[str, str] | None = None, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in here and wait for it. `environment` is added to ours."""
        return subprocess.run(
            self.command(words),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, **(environment or {})},
        )

    def start(
        self, *words: str, log: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[Any]:
        """Start a command in here; it is ended with the namespace at the latest."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                self.command(words),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
        self._started.append(process)
        return process

    def pids(self) -> list[int]:
        """The processes that live in here now."""
        return _pids(self.name)

    def end_processes(self) -> None:
        """SIGKILL to everything that lives in here."""
        _end_processes(self.name)

    def outgoing_only(self, *, but_from: str | None = None) -> None:
        """From now on nobody can open a connection to this host; it can to others, as on many clusters. `but_from`: a
        network such as "10.1.0.0/24" from which others can, as the nodes of one cluster among each other."""
        rules = ["iif lo accept", "tcp flags & (syn | ack) == syn drop", "meta l4proto udp drop"]
        if but_from is not None:
            rules.insert(0, f"ip saddr {but_from} accept")
        self._filter("outgoing_only", rules)

    def lose(self, *, percent: int) -> None:
        """Lose that share of the packets that arrive, at random; 0 ends it. Needs no netem."""
        # "<=", since nft refuses a bound that no number reaches.
        rules = [f"iif != lo numgen random mod 100 <= {percent - 1} drop"] if percent else []
        self._filter("lose", rules)

    def deafen(self, port: int) -> None:
        """What comes on the connections that this host has now to `port` anywhere is lost, and nobody is told; new
        connections are whole."""
        table = self.run("ss", "-Htn", "state", "established", f"( dport = :{port} )").stdout
        ours = sorted({line.split()[2].rpartition(":")[2] for line in table.splitlines()})
        assert ours, f"no connection to port {port}"
        self._filter("deafen", [f"tcp sport {port} tcp dport {{ {', '.join(ours)} }} drop"])

    def _filter(self, table: str, rules: Sequence[str]) -> None:
        """Replace one table of packet rules at the input."""
        commands = [f"add table inet {table}", f"delete table inet {table}"]
        if rules:
            commands += [f"add table inet {table}"]
            commands += [f"add chain inet {table} input {{ type filter hook input priority 0 ; }}"]
            commands += [f"add rule inet {table} input {rule}" for rule in rules]
        done = self.run("nft", "\n".join(commands))
        if done.returncode:
            raise RuntimeError(f"nft: {done.stderr.strip()}")

    def shape(self, interface: str, *words: str) -> None:
        """Spoil what leaves by an interface, in the words of tc: "netem", "delay", "20ms", "loss", "1%"; without
        words it is as before."""
        self.run("tc", "qdisc", "del", "dev", interface, "root")
        if words:
            done = self.run("tc", "qdisc", "add", "dev", interface, "root", *words)
            if done.returncode:
                raise RuntimeError(f"tc: {done.stderr.strip()}")

    def can_connect(self, address: str, port: int, *, timeout_s: float = 1.0) -> bool:
        """Whether a TCP connection from here to there is accepted."""
        words = f"import socket; socket.create_connection(({address!r}, {port}), {timeout_s}).close()"
        return self.run(sys.executable, "-c", words).returncode == 0


def free_subnet(first: int = 111) -> str:
    """The first three numbers of a /24 network, 10.x.0, that this machine does not use yet."""
    used = run("ip", "-o", "-4", "addr", "show")
    for number in range(first, 256):
        if f" 10.{number}.0." not in used:
            return f"10.{number}.0"
    raise RuntimeError("no 10.x.0.0/24 network is free")


def free_tcp_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("", 0)) as probe:
        return int(probe.getsockname()[1])
