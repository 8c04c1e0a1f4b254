"""Where is this channel served? The TCP search of the pvAccess protocol: its messages, and asking a server.

Source: the pvAccess protocol specification, sections "Connection validation", "Search request" and "Search response".
"""

import asyncio
import socket
import struct
from ipaddress import ip_address

from beamcast.pva.endpoint import Endpoint

MAGIC = 0xCA
VERSION = 2
FROM_SERVER = 0x40
CONTROL = 0x01
BIG_ENDIAN = 0x80
SEGMENTED = 0x30

BEACON_GUID_BYTES = 12
SET_BYTE_ORDER = 2
CONNECTION_VALIDATION = 1
ECHO = 2
SEARCH = 3
SEARCH_RESPONSE = 4
CONNECTION_VALIDATED = 9

# Flags of a search.
REPLY_REQUIRED = 0x01
UNICAST = 0x80


def message(command: int, payload: bytes, *, flags: int = FROM_SERVER) -> bytes:
    return struct.pack("<BBBBI", MAGIC, VERSION, flags, command, len(payload)) + payload


def string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<B", len(raw)) + raw  # the strings we send are shorter than 254 bytes


class _Reader:
    """A cursor over one message's payload in the sender's byte order; struct.error when it is too short."""

    def __init__(self, payload: bytes, order: str) -> None:
        self._payload = payload
        self._order = order
        self._at = 0

    def take(self, form: str) -> tuple[int, ...]:
        values = struct.unpack_from(self._order + form, self._payload, self._at)
        self._at += struct.calcsize(self._order + form)
        return values

    def size(self) -> int:
        (short,) = self.take("B")
        return self.take("i")[0] if short == 254 else short

    def string(self) -> str:
        length = self.size()
        raw = self._payload[self._at : self._at + length]
        if length < 0 or len(raw) != length:
            raise struct.error("a string runs past the end of its message")
        self._at += length
        return raw.decode(errors="replace")


def parse_search(payload: bytes, order: str) -> tuple[int, int, list[tuple[int, str]]]:
    """Sequence number, flags (`REPLY_REQUIRED`, `UNICAST`), and (channel id, name) pairs of a search."""
    reader = _Reader(payload, order)
    sequence, flags = reader.take("iB")
    reader.take("3x16sH")
    for _ in range(reader.size()):
        reader.string()
    (count,) = reader.take("H")
    return sequence, flags, [(reader.take("i")[0], reader.string()) for _ in range(count)]


def search_response(guid: bytes, sequence: int, endpoint: Endpoint | None, channel_ids: list[int]) -> bytes:
    """The message that says where the channels are served; without an endpoint: that they are not known here."""
    host = ip_address(endpoint.host if endpoint else "0.0.0.0")
    packed = host.packed if host.version == 6 else b"\0" * 10 + b"\xff\xff" + host.packed
    head = guid + struct.pack("<i", sequence) + packed + struct.pack("<H", endpoint.port if endpoint else 0)
    body = string("tcp") + struct.pack("<BH", bool(endpoint), len(channel_ids))
    return message(SEARCH_RESPONSE, head + body + struct.pack(f"<{len(channel_ids)}i", *channel_ids))


def find(name_server: Endpoint, channel: str, *, timeout_s: float = 5.0) -> Endpoint | None:
    """Ask a run's name server where a channel is served; None when it is not, OSError when nobody answers.

    Needs no pvaccess: a program that waits for a PV of the run asks so, and makes its channel when it is there. A
    pvaccess channel that is made too early asks again after 1, 2, 4, 8 … seconds.
    """
    with socket.create_connection((name_server.host, name_server.port), timeout=timeout_s) as connection:
        connection.sendall(search_request(channel))
        stream = connection.makefile("rb")
        while len(header := stream.read(8)) == 8:
            _, _, flags, command, size = struct.unpack("<BBBBI", header)
            payload = b"" if flags & CONTROL else stream.read(size)
            if command == SEARCH_RESPONSE:
                return _found_at(payload, "<", name_server)
    raise ConnectionError(f"the name server {name_server} closed the connection")


async def ask(server: Endpoint, channel: str) -> Endpoint | None:
    """Where `server` says that a channel is served, None when it knows nothing. Any pvAccess server may be asked: the
    conversation begins as the protocol wants it, with the validation of the connection."""
    reader, writer = await asyncio.open_connection(server.host, server.port, family=socket.AF_INET)
    # A host name is looked up anew each time, and what we answer with is in numbers.
    server = Endpoint(*writer.get_extra_info("peername")[:2])
    try:
        while True:
            header = await reader.readexactly(8)
            order = ">" if header[2] & BIG_ENDIAN else "<"
            payload = b""
            if not header[2] & CONTROL:
                payload = await reader.readexactly(struct.unpack(order + "I", header[4:])[0])
            if header[3] == CONNECTION_VALIDATION:
                reply = struct.pack("<iHh", 0x10000, 0x7FFF, 0) + string("anonymous") + b"\xff"
                writer.write(message(CONNECTION_VALIDATION, reply, flags=0))
            elif header[3] == CONNECTION_VALIDATED:
                writer.write(search_request(channel))
            elif header[3] == SEARCH_RESPONSE:
                return _found_at(payload, order, server)
            await writer.drain()
    finally:
        writer.close()


def search_request(channel: str, *, flags: int = REPLY_REQUIRED | UNICAST, port: int = 0) -> bytes:
    """The message that asks for one channel; with UDP the answer comes to `port`."""
    raw = channel.encode()
    wanted = struct.pack("<iB3x16sH", 1, flags, b"\0" * 16, port) + b"\x01" + string("tcp")
    wanted += struct.pack("<Hi", 1, 1) + struct.pack("<B", len(raw)) + raw
    return message(SEARCH, wanted, flags=0)


def _found_at(payload: bytes, order: str, server: Endpoint) -> Endpoint | None:
    """The endpoint in a search response. A server that means itself is reached where it was asked: the address that it
    knows of itself may be none at all, or one on the other side of a forwarder."""
    (port,) = struct.unpack_from(order + "H", payload, 32)
    if not payload[38]:
        return None
    address = ip_address(payload[16:32])
    address = getattr(address, "ipv4_mapped", None) or address
    return server if address.is_unspecified or port == server.port else Endpoint(str(address), port)
