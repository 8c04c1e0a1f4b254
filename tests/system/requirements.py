"""What a system test needs of the machine: absent, it is skipped, unless BEAMCAST_REQUIRE names it: then it fails.

    BEAMCAST_REQUIRE=slurm,mpi,netns pytest tests/system

A check answers with the reason why a component can't be used here, or None when it can.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

REQUIRE_VARIABLE = "BEAMCAST_REQUIRE"
_INSTALL = "tests/system/install-debian.sh installs it"


def required() -> frozenset[str]:
    """Components without which the tests must fail. ValueError for a name that no check knows."""
    names = frozenset(filter(None, os.environ.get(REQUIRE_VARIABLE, "").replace(" ", "").split(",")))
    unknown = names - CHECKS.keys()
    if unknown:
        raise ValueError(f"{REQUIRE_VARIABLE}: {sorted(unknown)} is none of {sorted(CHECKS)}")
    return names


def need(*components: str) -> None:
    """Skip or fail the calling test (or fixture) when a component is missing."""
    for component in components:
        reason = CHECKS[component]()
        if reason is not None:
            message = f"{component}: {reason}"
            if component in required():
                pytest.fail(f"{message} ({REQUIRE_VARIABLE} demands it)", pytrace=False)
            pytest.skip(message)


def _commands(*names: str) -> str | None:
    missing = [name for name in names if shutil.which(name) is None]
    return f"no {', '.join(missing)} on PATH; {_INSTALL}" if missing else None


@cache
def _netns() -> str | None:
    """Network namespaces: iproute2, and the right to make one."""
    missing = _commands("ip", "tc", "nsenter", "unshare")
    if missing:
        return missing
    # Tried, not guessed: a container's root may lack the right.
    tried = subprocess.run(
        ["unshare", "--net", "--uts", "--mount", "true"], capture_output=True, text=True, check=False
    )
    if tried.returncode or not os.access("/run", os.W_OK):
        return f"no right to make network namespaces (root has it): {tried.stderr.strip()}"
    return None


@cache
def _slurm() -> str | None:
    """The Slurm lab: the daemons, and namespaces for its nodes."""
    return _netns() or _commands("slurmctld", "slurmd", "munged", "sbatch", "srun", "squeue")


@cache
def _mpi() -> str | None:
    """MPI that really starts ranks."""
    # As `beamcast run` looks for it: beside the interpreter first, since nobody need activate an environment.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    launcher = shutil.which("mpiexec", path=path)
    if launcher is None:
        return "no mpiexec beside the interpreter or on PATH; `pip install mpich` brings one"
    # Ranks that end at once make Hydra end with SIGPIPE now and then (1 of 240 tries); no rank of ours does.
    try:
        tried = subprocess.run(
            [launcher, "-n", "2", "sleep", "0.2"], capture_output=True, text=True, timeout=30, check=False
        )
    except subprocess.TimeoutExpired:
        return "mpiexec starts nothing within 30 s"
    said = f"{tried.stdout}{tried.stderr}".strip()
    return None if tried.returncode == 0 else f"mpiexec ends with {tried.returncode}: {said}"


@cache
def _tmux() -> str | None:
    """A terminal multiplexer: a terminal as people have it, whose screen can be read."""
    return _commands("tmux")


@cache
def _freezer() -> str | None:
    """The cgroup v1 freezer, by which Slurm finds every process of a job without systemd."""
    return None if os.access("/sys/fs/cgroup/freezer", os.W_OK) else "no cgroup v1 freezer that we may write"


@cache
def _netem() -> str | None:
    """Latency and loss on a link: a kernel module that many small kernels lack."""
    if _netns():
        return _netns()
    tried = subprocess.run(
        ["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"the kernel has no netem: {tried.stderr.strip()}"


@cache
def _small_disk() -> str | None:
    """A file system of our own of some MB, which can be filled."""
    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", folder],
            capture_output=True,
            text=True,
            check=False,
        )
        if tried.returncode:
            return f"no right to mount a file system (root has it): {tried.stderr.strip()}"
        subprocess.run(["umount", folder], check=True)
    return None


def _firewall() -> str | None:
    return _netns() or (_commands("nft") and _commands("iptables"))


@cache
def _namespace() -> str | None:
    """A mount namespace of our own, and the right to become another user."""
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    if tried.returncode or os.geteuid():
        return "no right to change what a process sees of this host (root has it)"
    return _commands("setpriv", "mount")


CHECKS: dict[str, Callable[[], str | None]] = {
    "tmux": _tmux,
    "slurm": _slurm,
    "mpi": _mpi,
    "netns": _netns,
    "cgroup": _freezer,
    "netem": _netem,
    "small-disk": _small_disk,
    "namespace": _namespace,
    "firewall": _firewall,
    "haproxy": lambda: _commands("haproxy"),
    "stunnel": lambda: _commands("stunnel4") and _commands("stunnel"),
}

REPOSITORY = Path(__file__).resolve().parents[2]
