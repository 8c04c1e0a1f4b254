"""What some scenarios stand on besides the run itself. Each is a context manager that gives the load as it then is, and
keyword arguments of `Trial`."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from beamcast.members.names import NameServerProcess
from chaos.load import Load

Stage = tuple[Load, dict[str, Any]]
BEAMLINE_ADDRESS, NODE_ADDRESS = "10.124.0.1", "10.124.0.2"
# The first line of the job's script takes it into the node's network.
ENTER_NODE = (
    '[ -n "$BEAMCAST_NODE" ] || BEAMCAST_NODE={name} exec nsenter --net=/run/netns/{name} -- bash "$0"'
)
SMALL_DISK = "24m"


def no_mount() -> str | None:
    """Why no small disk can be made here."""
    return None if os.geteuid() == 0 else "only root can mount a small disk"


@contextmanager
def small_disk(folder: Path, load: Load) -> Iterator[Stage]:
    """Frames are spilled to a disk of 24 MiB, although they may take more. RuntimeError where it can't be mounted."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "chaos", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        raise RuntimeError(f"no small disk: {mounted.stderr.strip()}")
    try:
        yield replace(load, mirror={**load.mirror, "spill_folder": str(disk)}), {}
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@contextmanager
def replacements(folder: Path, load: Load) -> Iterator[Stage]:
    """A site that asks for another allocation where one ends early."""
    yield load, {"site_settings": ["allocation.replacements=3"]}


@contextmanager
def name_server(folder: Path, load: Load) -> Iterator[Stage]:
    """The detector is found by the beamline's name server, so that it may come back at another port."""
    with NameServerProcess(host="127.0.0.1", port=0) as names:
        yield load, {"names": names}


def no_networks() -> str | None:
    """Why no network namespaces can be made here."""
    missing = [name for name in ("ip", "nsenter", "unshare") if shutil.which(name) is None]
    if missing:
        return f"no {', '.join(missing)} on PATH"
    return None if os.geteuid() == 0 else "only root can make network namespaces"


@contextmanager
def two_hosts(folder: Path, load: Load) -> Iterator[Stage]:
    """Detector, controller and client on one host, the allocation on another, and a cable between them."""
    from networks.namespace import Namespace

    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{BEAMLINE_ADDRESS} beamline\n{NODE_ADDRESS} node\n")
    with (
        Namespace("chaos", "beamline", hosts_file=hosts) as beamline,
        Namespace("chaos", "node", hosts_file=hosts) as node,
    ):
        beamline.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", node.name)
        beamline.add_address("eth0", f"{BEAMLINE_ADDRESS}/24")
        node.add_address("eth0", f"{NODE_ADDRESS}/24")
        settings = ['network.cluster.interfaces=["eth0"]', 'network.nodes.interfaces=["eth0"]']
        settings += [
            "allocation.replacements=3",
            f"allocation.worker_init={ENTER_NODE.format(name=node.name)}",
        ]
        yield load, {"site_settings": settings, "inside": beamline.command, "cable": node}
