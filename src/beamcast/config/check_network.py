"""The rules between the fields of a site's network."""

from collections.abc import Iterator

from beamcast.config.site import Forwarder, Network, Ports, Site
from beamcast.config.words import shown
from beamcast.core.addresses import is_ipv4, is_ipv6
from beamcast.core.errors import Problem

# What nodes have to reach in a run with everything: name server, commands, Parsl, mirror and its service, metadata,
# results.
PORTS_OF_A_RUN = 7
FORWARDER = "network.forwarder"


def network_fits(site: Site) -> Iterator[Problem]:
    """Ports that are a range, and a forwarder that can work."""
    yield from _ascend(site.network.ports, "network.ports")
    yield from _no_ipv6(site.network)
    forwarder = site.network.forwarder
    if forwarder is not None:
        yield from _ascend(forwarder.ports, f"{FORWARDER}.ports")
        yield from _forwarder(forwarder)


def _no_ipv6(network: Network) -> Iterator[Problem]:
    hint = "Write the name of an interface or an IPv4 address"
    for name in ("beamline", "cluster", "nodes"):
        for index, candidate in enumerate(getattr(network, name).interfaces):
            if is_ipv6(candidate):
                where = f"network.{name}.interfaces[{index}]"
                yield Problem(f"{shown(candidate)} is IPv6, which pvAccess does not speak here", where, hint)


def _ascend(ports: Ports, where: str) -> Iterator[Problem]:
    if ports.first > ports.last:
        yield Problem(f"the first port, {ports.first}, comes after the last, {ports.last}", f"{where}.first")


def _forwarder(forwarder: Forwarder) -> Iterator[Problem]:
    count = forwarder.ports.last - forwarder.ports.first + 1
    if 0 < count < PORTS_OF_A_RUN:
        hint = f"A run needs up to {PORTS_OF_A_RUN}; 16 are enough for two"
        yield Problem(f"the forwarder passes on {count} ports", f"{FORWARDER}.ports", hint)
    if not is_ipv4(forwarder.host):
        hint = "Write the IPv4 address that the nodes see: pvAccess search replies carry numbers"
        yield Problem(f"{shown(forwarder.host)} is no address", f"{FORWARDER}.host", hint)
    if forwarder.kind != "stunnel":
        if forwarder.tls is not None:
            yield Problem(
                f"{forwarder.kind} has no certificates here", f"{FORWARDER}.tls", "Use kind 'stunnel'"
            )
        return
    if forwarder.tls is None:
        hint = "Give ca, certificate and key, and peer to check the other end's name"
        yield Problem("stunnel needs certificates", f"{FORWARDER}.tls", hint)
    if forwarder.target is None:
        yield Problem("stunnel needs the address of its other end", f"{FORWARDER}.target")
