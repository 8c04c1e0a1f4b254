"""From interface names to addresses: the first candidate that this host has wins."""

import ipaddress
import socket
from collections.abc import Sequence
from contextlib import suppress

import psutil

from beamcast.core.addresses import is_ipv4, is_ipv6
from beamcast.core.errors import WorldError
from beamcast.pva.resolve import numeric

ONLY_IPV4 = "Write an IPv4 address or the name of an interface: pvAccess speaks no IPv6 here"


def resolve_address(candidates: Sequence[str]) -> str:
    """The IPv4 address of the first candidate (an interface name such as "hsn0", an address, or a host name
    with a dot in it) that is here.

    WorldError, with what this host does have, when none is.
    """
    interfaces = {
        name: [entry.address for entry in entries if entry.family == socket.AF_INET]
        for name, entries in psutil.net_if_addrs().items()
    }
    own = {address for addresses in interfaces.values() for address in addresses}
    for candidate in candidates:
        if is_ipv6(candidate):
            raise WorldError(f"{candidate} is an IPv6 address", hint=ONLY_IPV4)
        if is_ipv4(candidate):
            if candidate in own or ipaddress.ip_address(candidate).is_loopback:
                return candidate
        elif interfaces.get(candidate):
            return str(interfaces[candidate][0])
        elif candidate == "localhost" or "." in candidate:
            with suppress(WorldError):
                if (address := numeric(candidate)) in own:
                    return address
    has = ", ".join(f"{name} ({addresses[0]})" for name, addresses in interfaces.items() if addresses)
    raise WorldError(
        f"none of the interfaces {', '.join(candidates)} is on {socket.gethostname()}",
        hint=f"it has: {has}; name one of them in the site file under [network]",
    )
