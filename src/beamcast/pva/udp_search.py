"""Where is this channel served? The UDP search of the pvAccess protocol, for a name server that asks for others.

A pvaccess client that has searched in vain asks ever less often, at last twice a minute. A name server of ours asks
once a second on its behalf, in the places where the client would, and tells it.

Source: the pvAccess protocol specification, sections "Search request" and "Search response".
"""

import asyncio
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address

import psutil

from beamcast.core.errors import BeamcastError
from beamcast.pva.endpoint import Endpoint
from beamcast.pva.resolve import resolved
from beamcast.pva.search import BIG_ENDIAN, MAGIC, SEARCH_RESPONSE, UNICAST, search_request

DEFAULT_PORT = 5076
ANSWER_S = 0.5
_RESPONSE_HEAD = 39
_DATAGRAM_BYTES = 1 << 16


def search_targets(settings: Mapping[str, str]) -> tuple[Endpoint, ...]:
    """Where a client with these EPICS settings sends its searches. Names that are not known are left out."""
    port = int(settings.get("EPICS_PVA_BROADCAST_PORT") or DEFAULT_PORT)
    found: list[Endpoint] = []
    for word in settings.get("EPICS_PVA_ADDR_LIST", "").split():
        with suppress(BeamcastError, ValueError):
            found.append(resolved(Endpoint.parse(word if ":" in word else f"{word}:{port}")))
    if settings.get("EPICS_PVA_AUTO_ADDR_LIST", "YES").upper() != "NO":
        found += [Endpoint(host, port) for host in _broadcast_addresses()]
    return tuple(dict.fromkeys(found))


def _broadcast_addresses() -> list[str]:
    """Those of all interfaces, and loopback's own address, which has none."""
    addresses = [
        each for one in psutil.net_if_addrs().values() for each in one if each.family == socket.AF_INET
    ]
    return [*dict.fromkeys(each.broadcast or each.address for each in addresses)]


async def ask_by_udp(targets: Sequence[Endpoint], channel: str) -> Endpoint | None:
    """Where the channel is served, as the first server says that answers; None where none does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        probe.bind(("", 0))
        request = search_request(channel, flags=UNICAST, port=probe.getsockname()[1])
        for target in targets:
            with suppress(OSError):  # a network that is not there now
                probe.sendto(request, (target.host, target.port))
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(ANSWER_S):
                return await _first_answer(probe)
    return None


async def _first_answer(probe: socket.socket) -> Endpoint:
    loop = asyncio.get_running_loop()
    while True:
        data, (host, _) = await loop.sock_recvfrom(probe, _DATAGRAM_BYTES)
        found = served_at(data, host)
        if found is not None:
            return found


def served_at(datagram: bytes, sender: str) -> Endpoint | None:
    """The endpoint in a search response from `sender`; None in one that knows nothing, and in anything else."""
    body = datagram[8:]
    if len(body) < _RESPONSE_HEAD or datagram[0] != MAGIC or datagram[3] != SEARCH_RESPONSE or not body[38]:
        return None
    order = ">" if datagram[2] & BIG_ENDIAN else "<"
    (port,) = struct.unpack_from(order + "H", body, 32)
    address = ip_address(body[16:32])
    address = getattr(address, "ipv4_mapped", None) or address
    return Endpoint(sender if address.is_unspecified else str(address), port)
