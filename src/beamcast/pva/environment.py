"""The EPICS variables of one process: TCP name servers only, nothing found or answered by UDP.

pvaccess reads the environment when the first server, channel or RPC client of a process is made, and keeps the
client's part for good. So every process gets exactly one environment, before anything else. Whatever the user's shell
sets is removed first: a stray address list would make a rank find (or be found by) a stranger's channel of the same
name.

Choices, tried on pvapy 5.6:

* UDP search off. ``EPICS_PVA_AUTO_ADDR_LIST=NO`` with empty address lists stops a client from sending
  searches, and the empty beacon list stops a server from announcing itself.
* ``*_BROADCAST_PORT=0``. Every pvAccess process binds UDP sockets on the broadcast port, servers and clients
  alike. On the default 5076 the bind is shared and never fails, but then *any* client on the host that
  searches by UDP finds our channels. A fixed port of our own would have to be different for each process.
  With 0 the kernel gives each process its own free port: nothing clashes and no stranger's search arrives,
  while TCP name servers work as before.
* ``EPICS_PVAS_INTF_ADDR_LIST`` takes one address only; ``0.0.0.0`` serves all networks.
"""

import json
import os
import socket
import struct
from collections.abc import Collection, Mapping, Sequence

import psutil

from beamcast.core.errors import WorldError

_PREFIXES = ("EPICS_PVA_", "EPICS_PVAS_")
# The user's own settings, as JSON, for the members that look for channels as the user's other clients do.
_USERS = "BEAMCAST_USER_EPICS"

# No search, no beacons, no shared UDP port: the same for clients and servers.
_QUIET = {
    "EPICS_PVA_AUTO_ADDR_LIST": "NO",
    "EPICS_PVA_ADDR_LIST": "",
    "EPICS_PVA_BROADCAST_PORT": "0",
}


def client_environment(name_servers: Sequence[str]) -> dict[str, str]:
    """Variables of a process that only reads; ``name_servers`` are ``"host:port"``, asked over TCP."""
    return {**_QUIET, "EPICS_PVA_NAME_SERVERS": " ".join(name_servers)}


def server_environment(*, address: str, port: int, name_servers: Sequence[str] = ()) -> dict[str, str]:
    """Variables of a process that serves on ``address:port`` and reads from ``name_servers``.

    ``address`` is one IP address of this host, or ``0.0.0.0``. ``port`` is TCP; see `check_bound` for why it
    must be read back after the server has started.
    """
    return {
        **client_environment(name_servers),
        "EPICS_PVAS_INTF_ADDR_LIST": address,
        "EPICS_PVAS_SERVER_PORT": str(port),
        "EPICS_PVAS_BROADCAST_PORT": "0",
        "EPICS_PVAS_AUTO_BEACON_ADDR_LIST": "NO",
        "EPICS_PVAS_BEACON_ADDR_LIST": "",
    }


def apply_environment(variables: Mapping[str, str]) -> None:
    """Make ``variables`` the only pvAccess settings of this process; inherited ones are removed.

    To be called before the first server, channel or RPC client is made: pvaccess reads its environment then
    (tried on pvapy 5.6: importing it earlier does no harm) and keeps the client's part for good.
    """
    os.environ.setdefault(_USERS, json.dumps(user_settings()))
    for name in [name for name in os.environ if name.startswith(_PREFIXES)]:
        del os.environ[name]
    os.environ.update(variables)


def user_settings() -> dict[str, str]:
    """The pvAccess client settings with which the first process of the run was started."""
    kept = os.environ.get(_USERS)
    if kept is not None:
        settings: dict[str, str] = json.loads(kept)
        return settings
    return {name: value for name, value in os.environ.items() if name.startswith("EPICS_PVA_")}


def free_port(first: int, last: int, address: str, *, prefer: int = 0, taken: Collection[int] = ()) -> int:
    """A TCP port in ``first..last`` that nothing listens on at ``address``.

    The search goes upwards from ``first + prefer`` and starts over at ``first``. ``taken`` ports are
    promised to others.

    Ranks that start together on one node pass their local rank as ``prefer``, so that they do not all try
    the same port. The port is proved free by listening on it for a moment, not held: another process may
    take it before our server does, which `check_bound` tells. Raises `WorldError` if every port is taken.
    """
    count = last - first + 1
    for offset in range(count):
        port = first + (prefer + offset) % count
        if port not in taken and _can_listen(address, port):
            return port
    raise WorldError(
        f"no free TCP port on {address} between {first} and {last}: all {count} are in use",
        hint="widen the port range, or stop what listens there",
    )


def _can_listen(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As a pvAccess server does: lingering connections of a former server don't make a port busy.
        # Two sockets may then share a bind; only listening tells.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def bound_ports() -> list[int]:
    """TCP ports that this process listens on now, sorted."""
    connections = psutil.Process().net_connections(kind="tcp")
    return sorted({c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN})


def check_bound(expected: Collection[int]) -> None:
    """Raise `WorldError` unless this process listens on every port in ``expected``.

    A pvAccess server whose port is busy takes a random one and says nothing; through a firewall or a name
    server list nobody would find it there.
    """
    bound = bound_ports()
    missing = sorted(set(expected).difference(bound))
    if missing:
        raise WorldError(
            f"port {_listed(missing)} is not ours: it was busy when the server started, and pvAccess took "
            f"{_listed(sorted(set(bound).difference(expected))) or 'none'} instead",
            hint="stop what uses the port (ss -ltnp shows it) or configure another one",
        )


def free_at_once(port: int) -> None:
    """Have this process's connections to its own server at ``port`` reset when they close, not lingered over.

    pvaccess does not set SO_REUSEADDR: whoever takes over the port would otherwise wait for a minute, or listen on a
    random one instead.
    """
    for connection in psutil.Process().net_connections(kind="tcp"):
        if connection.laddr.port == port and connection.status == psutil.CONN_ESTABLISHED:
            own = socket.socket(fileno=connection.fd)
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            own.detach()


def _listed(ports: Sequence[int]) -> str:
    return ", ".join(map(str, ports))
