"""One real frame, from a server to a client in processes of their own, over TCP name search alone.

    python -m beamcast.launch.checks.frame serve ADDRESS PORT CHANNEL     prints `ready`, ends with its standard input
    python -m beamcast.launch.checks.frame read NAMES CHANNEL             prints the frame's id; NAMES is a name server

A pvapy that was built without name servers is found here, and so is a firewall on the host. Where the site has a
forwarder, the frame goes through that once more, as a rank's would: the forwarder's own address is what the name
server tells.
"""

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

from beamcast.core.errors import WorldError
from beamcast.launch.checks.registry import Finding, Ground, check, fail, ok
from beamcast.members.command import python_module
from beamcast.pva.environment import apply_environment, client_environment, free_port, server_environment
from beamcast.pva.interfaces import resolve_address
from beamcast.pva.nameserver import Endpoint, NameServer

DEADLINE_S = 20.0
FRAME_ID = 4711
SIDE = 64


@check("frame")
def frame(ground: Ground) -> Iterator[Finding]:
    """A frame goes round on each of this host's sides."""
    network = ground.site.network
    for name, face in (("beamline", network.beamline), ("cluster", network.cluster)):
        try:
            address = resolve_address(face.interfaces)
        except WorldError:
            continue
        port = free_port(network.ports.first, network.ports.last, address, prefer=os.getpid() % 500)
        trouble = try_frame(address, port)
        if trouble is None:
            yield ok(f"{name}: a frame went from server to client at {address}:{port}")
        else:
            do = (
                "see that pvapy is a wheel from PyPI and that no firewall stands between this host and itself"
            )
            yield fail(f"{name}: no frame came through at {address}:{port}: {trouble}", do)


@check("forwarder")
def forwarder(ground: Ground) -> Iterator[Finding]:
    """A frame goes through the site's forwarder and comes back here."""
    one = ground.site.network.forwarder
    if one is None:
        return
    address = resolve_address(ground.site.network.cluster.interfaces)
    port = free_port(one.ports.first, one.ports.last, address, prefer=os.getpid() % 500)
    entrance = Endpoint(one.host, port)
    trouble = try_frame(address, port, entrance=entrance)
    if trouble is None:
        yield ok(f"a frame went from a client to {entrance}, and through the forwarder to {address}:{port}")
        return
    do = "start it with what `beamcast network render` prints; where only nodes can reach it, this host can't tell"
    yield fail(f"no frame came through {entrance} to {address}:{port}: {trouble}", do)


def try_frame(address: str, port: int, *, entrance: Endpoint | None = None) -> str | None:
    """Send one frame; what went wrong, or None. `entrance`: where its client is to connect instead of there."""
    channel = f"beamcast:doctor:{uuid.uuid4().hex[:12]}"
    if entrance is None:
        return _round(address, port, channel, names=f"{address}:{port}")
    with NameServer(host="127.0.0.1", port=0) as names:
        names.serve_at({channel: entrance})
        return _round(address, port, channel, names=str(names.endpoint))


def _round(address: str, port: int, channel: str, *, names: str) -> str | None:
    command = python_module("beamcast.launch.checks.frame")
    server = subprocess.Popen(
        [*command, "serve", address, str(port), channel],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        errors="replace",
    )
    with server:
        try:
            assert server.stdout is not None
            if server.stdout.readline().strip() != "ready":
                return "its server did not start"
            read = subprocess.run(
                [*command, "read", names, channel],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=DEADLINE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"nothing within {DEADLINE_S:g} s"
        finally:
            # It ends with its input, and by force where it does not.
            with contextlib.suppress(OSError):
                assert server.stdin is not None
                server.stdin.close()
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.kill()
    if read.stdout.strip() == str(FRAME_ID):
        return None
    return (read.stderr.strip().splitlines() or [f"status {read.returncode}"])[-1]


def _serve(address: str, port: int, channel: str) -> None:
    apply_environment(server_environment(address=address, port=port))
    import numpy as np
    import pvaccess

    from beamcast.pva.environment import check_bound

    image = pvaccess.NtNdArray()
    image["uniqueId"] = FRAME_ID
    image["value"] = {"ubyteValue": np.zeros(SIDE * SIDE, dtype=np.uint8)}
    server = pvaccess.PvaServer(channel, image)
    check_bound([port])
    print("ready", flush=True)
    sys.stdin.read()
    server.stop()


def _read(server: str, channel: str) -> None:
    apply_environment(client_environment([server]))
    import pvaccess

    reader = pvaccess.Channel(channel)
    reader.setTimeout(DEADLINE_S / 2)
    received = reader.get("field()")
    if len(received["value"][0]["ubyteValue"]) != SIDE * SIDE:
        sys.exit("the frame has lost pixels")
    print(received["uniqueId"], flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        _read(sys.argv[2], sys.argv[3])
    # pvaccess's threads may crash or hang at interpreter exit.
    os._exit(0)
