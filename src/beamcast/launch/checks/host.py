"""Checks of this host: versions, interfaces, ports, folders, clock."""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from beamcast.config.site import LocalProvider
from beamcast.core.errors import WorldError
from beamcast.launch.checks.registry import Finding, Ground, check, fail, ok, warn
from beamcast.pva.environment import free_port
from beamcast.pva.interfaces import resolve_address

# The name server, two servers of the controller, mirror, metadata, results, simulator, and some for ranks beside them.
PORTS_WANTED = 32
SPACE_WANTED_BYTES = 1 << 30
CLOCK_TOLERANCE_S = 2.0
ONE_HOST_ONLY = ("tmpfs", "ramfs", "overlay", "ext4", "ext3", "xfs", "btrfs")


@check("versions")
def versions(ground: Ground) -> Iterator[Finding]:
    """Python and the libraries; nodes need the same beamcast, Parsl and Python minor version."""
    found = []
    for package in ("pvapy", "parsl", "mpi4py"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            yield fail(f"{package} is not installed", f"pip install {package}")
    yield ok(f"Python {platform.python_version()} at {sys.executable}, {', '.join(found)}")
    if not isinstance(ground.site.provider, LocalProvider):
        do = "let worker_init activate this environment, or one with the same versions"
        yield warn("the versions on the nodes can't be seen from here", do)


@check("interfaces")
def interfaces(ground: Ground) -> Iterator[Finding]:
    """Of each ordered list of candidates one has to be on this host."""
    network = ground.site.network
    faces = [("beamline", network.beamline), ("cluster", network.cluster)]
    if isinstance(ground.site.provider, LocalProvider):
        faces.append(("nodes", network.nodes))
    for name, face in faces:
        try:
            yield ok(f"{name}: {resolve_address(face.interfaces)}")
        except WorldError as error:
            yield fail(f"{name}: {error.message}", error.hint or "")


@check("ports")
def ports(ground: Ground) -> Iterator[Finding]:
    """Enough free ports in the range, on the side of the nodes."""
    given = ground.site.network.ports
    try:
        address = resolve_address(ground.site.network.cluster.interfaces)
    except WorldError:
        yield warn("no address to try ports on", "mend the interfaces first")
        return
    free, port = 0, given.first
    while free < PORTS_WANTED and port <= given.last:
        try:
            port = free_port(port, given.last, address) + 1
        except WorldError:
            break
        free += 1
    where = f"{given.first}-{given.last} on {address}"
    if free < 3:
        yield fail(f"{free} free ports in {where}", "widen [network.ports], or stop what listens there")
    elif free < PORTS_WANTED:
        yield warn(f"{free} free ports in {where}", f"a range with {PORTS_WANTED} free ports is safer")
    else:
        yield ok(f"at least {free} free ports in {where}")


@check("run-root")
def run_root(ground: Ground) -> Iterator[Finding]:
    """Run directories: writable, room, modes that hold, seen by the nodes."""
    root = ground.run_root
    while not root.exists():
        root = root.parent
    try:
        with tempfile.NamedTemporaryFile(dir=root, prefix=".doctor-") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            os.utime(file.name)
            behind = time.time() - Path(file.name).stat().st_mtime
    except OSError as error:
        yield fail(f"{root} can't be written: {error.strerror}", "choose another run_root in the site file")
        return
    if mode & 0o077:
        yield fail(
            f"files in {root} have mode {mode:03o}: its file system does not keep secrets",
            "choose a run_root on a file system with permissions",
        )
    yield from _space(root)
    yield from _links(root)
    yield from _seen_by_nodes(ground)
    if abs(behind) > CLOCK_TOLERANCE_S:
        yield warn(
            f"the file server's clock is {behind:+.1f} s off this host's",
            "have both follow NTP: leases use it",
        )


def _links(root: Path) -> Iterator[Finding]:
    with tempfile.TemporaryDirectory(dir=root, prefix=".doctor-") as folder:
        file = Path(folder) / "one"
        file.touch()
        try:
            (Path(folder) / "two").hardlink_to(file)
        except OSError as error:
            do = "runs do without; see that only one host at a time starts or resumes a run of the same name"
            yield warn(
                f"{root} has no hard links ({error.strerror}), by which a run's one owner is settled", do
            )


def _space(root: Path) -> Iterator[Finding]:
    free = psutil.disk_usage(str(root)).free
    text = f"{root}: {free / (1 << 30):.1f} GiB free"
    if free < SPACE_WANTED_BYTES:
        yield warn(text, "logs and spilled frames need room: 1 GiB at least")
    else:
        yield ok(text)


def _seen_by_nodes(ground: Ground) -> Iterator[Finding]:
    if isinstance(ground.site.provider, LocalProvider) or ground.site.executor == "globus-compute":
        return
    root = ground.run_root.resolve()
    mounts = [part for part in psutil.disk_partitions(all=True) if root.is_relative_to(part.mountpoint)]
    mount = max(mounts, key=lambda part: len(part.mountpoint), default=None)
    if mount is not None and mount.fstype in ONE_HOST_ONLY:
        yield warn(
            f"{root} is on {mount.fstype}, which is as a rule seen by this host alone",
            "let run_root lie on a shared file system",
        )


@check("clock")
def clock(ground: Ground) -> Iterator[Finding]:
    """Frames are joined with metadata by time: clocks have to agree."""
    try:
        said = subprocess.run(
            ["timedatectl", "show", "--property=NTPSynchronized", "--value"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        yield warn(
            "nobody says whether the clock is synchronised", "see that NTP or chrony runs on this host"
        )
        return
    if said.stdout.strip() == "yes":
        yield ok("the clock is synchronised")
    else:
        yield warn("the clock is not synchronised", "start NTP or chrony: metadata are joined by time")
