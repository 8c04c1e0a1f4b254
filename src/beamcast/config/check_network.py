"""The rules between the fields of a site's network."""

import ipaddress
from collections.abc import Iterator

from beamcast.config.site import Forwarder, Ports, Site
from beamcast.config.words import shown
from beamcast.core.errors import Problem

# What nodes have to reach in a run with everything: name server, commands, Parsl, mirror and its service, metadata,
# results.
PORTS_OF_A_RUN = 7
FORWARDER = "network.forwarder"


def network_fits(site: Site) -> Iterator[Problem]:
    """Ports that are a range, and a forwarder that can work."""
    yield from _ascend(site.network.ports, "network.ports")
    forwarder = site.network.forwarder
    if forwarder is not None:
        yield from _ascend(forwarder.ports, f"{FORWARDER}.ports")
        yield from _forwarder(forwarder)


def _ascend(ports: Ports, where: str) -> Iterator[Problem]:
    if ports.first > ports.last:
        yield Problem(f"the first port, {ports.first}, comes after the last, {ports.last}", f"{where}.first")


def _forwarder(forwarder: Forwarder) -> Iterator[Problem]:
    count = forwarder.ports.last - forwarder.ports.first + 1
    if 0 < count < PORTS_OF_A_RUN:
        hint = f"A run needs up to {PORTS_OF_A_RUN}; 16 are enough for two"
        yield Problem(f"the forwarder passes on {count} ports", f"{FORWARDER}.ports", hint)
    try:
        ipaddress.IPv4Address(forwarder.host)
    except ValueError:
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
