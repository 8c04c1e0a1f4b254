"""The run's name servers: one for the beamline's side, and one for the nodes where they see other addresses.

Each process of the run, and each user, asks exactly one of them; what is served where is told to both.
"""

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from beamcast.config.site import Network, Ports
from beamcast.core.errors import WorldError
from beamcast.launch.network.addresses import Sides
from beamcast.members.names import NameServerProcess
from beamcast.pva.endpoint import Endpoint
from beamcast.pva.environment import apply_environment, check_bound, free_port, server_environment
from beamcast.pva.interfaces import resolve_address
from beamcast.pva.rpc import RpcEndpoint

# A port may be taken between the moment it was found free and the moment its server listens.
ATTEMPTS = 5

Served = TypeVar("Served")
# An RPC server listens a moment after it was started.
SETTLE_S = 0.05


def find_sides(network: Network) -> Sides:
    """The addresses of this host; WorldError where it has none of the interfaces."""
    cluster = resolve_address(network.cluster.interfaces)
    forwarder = network.forwarder
    return Sides(
        beamline=resolve_address(network.beamline.interfaces),
        cluster=cluster,
        reached=forwarder.host if forwarder is not None else cluster,
    )


class PortLeases:
    """Lends the ports of a range one after the other, none of them twice."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        # Anywhere, since runs that start together on one host would get in each other's way.
        self._next = random.randrange(ports.last - ports.first + 1)

    def lease(self, address: str) -> Endpoint:
        """A port that nobody listens on at the address; WorldError when there is none."""
        port = free_port(self._ports.first, self._ports.last, address, prefer=self._next)
        self._next = port + 1 - self._ports.first
        return Endpoint(address, port)

    def serve(
        self, address: str, start: Callable[[Endpoint], Served], stop: Callable[[Served], None]
    ) -> tuple[Served, Endpoint]:
        """Start a pvAccess server on a leased port, and on another one when somebody was quicker. WorldError when that
        happens again and again."""
        for left in reversed(range(ATTEMPTS)):
            endpoint = self.lease(address)
            server = start(endpoint)
            try:
                check_bound([endpoint.port])
            except WorldError:
                stop(server)
                if not left:
                    raise
            else:
                return server, endpoint
        raise AssertionError("the last attempt returns or raises")


def serve_pvs(at: Endpoint, name_server: str) -> Any:
    """A PvaServer of this process; the first thing of pvaccess in it."""
    apply_environment(server_environment(address=at.host, port=at.port, name_servers=[name_server]))
    import pvaccess

    return pvaccess.PvaServer()


def serve_rpc(at: Endpoint, name_server: str, endpoint: RpcEndpoint) -> RpcEndpoint:
    """Start a service beside `serve_pvs`, which may face another network: the environment is read when each starts."""
    os.environ.update(server_environment(address=at.host, port=at.port, name_servers=[name_server]))
    started = endpoint.start()
    time.sleep(SETTLE_S)
    return started


class Directory:
    """Tells each side where channels are served. The methods of a name server; a context manager, one thread."""

    def __init__(self, sides: Sides, leases: PortLeases) -> None:
        self._sides = sides
        self._leases = leases
        self._near: NameServerProcess | None = None
        self._far: NameServerProcess | None = None

    def __enter__(self) -> Self:
        self._near = self._start(self._sides.beamline)
        if self._sides.two_faced:
            try:
                self._far = self._start(self._sides.cluster)
            except WorldError:
                self._near.__exit__(None, None, None)
                raise
        return self

    def _start(self, address: str) -> NameServerProcess:
        for left in reversed(range(ATTEMPTS)):
            endpoint = self._leases.lease(address)
            try:
                return NameServerProcess(host=endpoint.host, port=endpoint.port).__enter__()
            except WorldError:
                if not left:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in (self._far, self._near):
            if server is not None:
                server.__exit__(kind, error, trace)

    @property
    def endpoint(self) -> Endpoint:
        """The name server for users at the beamline and for the members beside the controller."""
        assert self._near is not None
        return self._near.endpoint

    @property
    def far_endpoint(self) -> Endpoint:
        """The name server for the nodes, as they reach it."""
        if self._far is None:
            return self.endpoint
        return Endpoint(self._sides.reached, self._far.endpoint.port)

    def serve_at(self, channels: Mapping[str, Endpoint]) -> None:
        """Say where channels are served from now on; an older entry of the same name is replaced."""
        assert self._near is not None
        self._near.serve_at(channels)
        if self._far is not None:
            seen = {
                name: Endpoint(self._sides.seen_by_nodes(where.host), where.port)
                for name, where in channels.items()
            }
            self._far.serve_at(seen)

    def ask_at(self, channels: Mapping[str, Endpoint]) -> None:
        """Say which server at the beamline knows where a channel of others is served; no node asks for one."""
        assert self._near is not None
        self._near.ask_at(channels)

    def seek(self, channels: Mapping[str, Sequence[Endpoint]]) -> None:
        """Say where the beamline's clients search for channels of others; no node asks for one."""
        assert self._near is not None
        self._near.seek(channels)

    def revive(self) -> None:
        """Start name servers that have died again; WorldError where that does not help."""
        for server in (self._near, self._far):
            if server is not None:
                server.revive()

    def forget(self, channels: list[str]) -> None:
        """These channels are not served any more."""
        for server in (self._near, self._far):
            if server is not None:
                server.forget(channels)
