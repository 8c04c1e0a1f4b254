"""From interface names to addresses: the first candidate that this host has wins."""

import ipaddress
import socket
from collections.abc import Sequence

import psutil

from beamcast.core.errors import WorldError


def resolve_address(candidates: Sequence[str]) -> str:
    """The IPv4 address of the first candidate (an interface name such as "hsn0", or an address) that is here.

    WorldError, with what this host does have, when none is.
    """
    interfaces = {
        name: [entry.address for entry in entries if entry.family == socket.AF_INET]
        for name, entries in psutil.net_if_addrs().items()
    }
    own = {address for addresses in interfaces.values() for address in addresses}
    for candidate in candidates:
        if _is_address(candidate):
            if candidate in own or ipaddress.ip_address(candidate).is_loopback:
                return candidate
        elif interfaces.get(candidate):
            return str(interfaces[candidate][0])
    has = ", ".join(f"{name} ({addresses[0]})" for name, addresses in interfaces.items() if addresses)
    raise WorldError(
        f"none of the interfaces {', '.join(candidates)} is on {socket.gethostname()}",
        hint=f"it has: {has}; name one of them in the site file under [network]",
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
