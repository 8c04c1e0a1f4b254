"""The run's directory: a pvAccess name server that knows where every channel of the run is served.

A pvAccess client reads its list of name servers once, when its first channel is made. Ranks come and go, on hosts
and ports that nobody knows beforehand, so every process of a run is given exactly one name server: this one. It
answers the TCP search of the pvAccess protocol (connection validation, echo and search, nothing else) with the
address at which the channel's server really listens. A restarted rank is found at its new port, a late rank is found
at all, and no UDP search is needed anywhere.

Source: the pvAccess protocol specification, sections "Connection validation", "Search request" and "Search
response"; the client accepts an address in the response that differs from the sender's.
"""

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Self

from beamcast.core.errors import WorldError

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

# Names that one client waits for; beyond that it has to ask again.
MAX_PENDING = 20000
# A search message holds at most a few hundred names; a client that claims more is not a pvAccess client.
MAX_MESSAGE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a pvAccess server listens: a numeric IP address and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "host:port"; raises ValueError when there is no port."""
        host, _, port = text.rpartition(":")
        if not host:
            raise ValueError(f"{text!r} is not host:port")
        return cls(host, int(port))


def _message(command: int, payload: bytes, *, flags: int = FROM_SERVER) -> bytes:
    return struct.pack("<BBBBI", MAGIC, VERSION, flags, command, len(payload)) + payload


def _string(text: str) -> bytes:
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


def parse_search(payload: bytes, order: str) -> tuple[int, bool, list[tuple[int, str]]]:
    """Sequence number, whether an answer is asked for in any case, and (channel id, name) pairs of a search."""
    reader = _Reader(payload, order)
    sequence, flags = reader.take("iB")
    reader.take("3x16sH")
    for _ in range(reader.size()):
        reader.string()
    (count,) = reader.take("H")
    return sequence, bool(flags & 1), [(reader.take("i")[0], reader.string()) for _ in range(count)]


def search_response(guid: bytes, sequence: int, endpoint: Endpoint | None, channel_ids: list[int]) -> bytes:
    """The message that says where the channels are served; without an endpoint: that they are not known here."""
    host = ip_address(endpoint.host if endpoint else "0.0.0.0")
    packed = host.packed if host.version == 6 else b"\0" * 10 + b"\xff\xff" + host.packed
    head = guid + struct.pack("<i", sequence) + packed + struct.pack("<H", endpoint.port if endpoint else 0)
    body = _string("tcp") + struct.pack("<BH", bool(endpoint), len(channel_ids))
    return _message(SEARCH_RESPONSE, head + body + struct.pack(f"<{len(channel_ids)}i", *channel_ids))


def find(name_server: Endpoint, channel: str, *, timeout_s: float = 5.0) -> Endpoint | None:
    """Ask a run's name server where a channel is served; None when it is not, OSError when nobody answers.

    Needs no pvaccess: a program that waits for a PV of the run asks so, and makes its channel when it is there. A
    pvaccess channel that is made too early asks again after 1, 2, 4, 8 … seconds.
    """
    raw = channel.encode()
    wanted = struct.pack("<iB3x16sH", 1, 1, b"\0" * 16, 0) + b"\x01" + _string("tcp")
    wanted += struct.pack("<Hi", 1, 1) + struct.pack("<B", len(raw)) + raw
    with socket.create_connection((name_server.host, name_server.port), timeout=timeout_s) as connection:
        connection.sendall(_message(SEARCH, wanted, flags=0))
        stream = connection.makefile("rb")
        while len(header := stream.read(8)) == 8:
            _, _, flags, command, size = struct.unpack("<BBBBI", header)
            payload = b"" if flags & CONTROL else stream.read(size)
            if command == SEARCH_RESPONSE:
                (port,) = struct.unpack_from("<H", payload, 32)
                found = payload[38]
                return Endpoint(socket.inet_ntoa(payload[28:32]), port) if found else None
    raise ConnectionError(f"the name server {name_server} closed the connection")


class _Client:
    """One connection, and the channels that it asked for before anyone served them."""

    __slots__ = ("pending", "writer")

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.pending: dict[str, tuple[int, list[int]]] = {}


class NameServer:
    """Answers pvAccess TCP searches for the channels it was told about. Thread-safe; use as a context manager."""

    def __init__(self, *, host: str, port: int) -> None:
        self._bind = Endpoint(host, port)
        self._channels: dict[str, Endpoint] = {}
        self._guid = os.urandom(BEACON_GUID_BYTES)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="name-server", daemon=True)
        self._started = threading.Event()
        self._failure: OSError | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._clients: set[_Client] = set()

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""
        return self._bind

    def serve_at(self, channels: Mapping[str, Endpoint]) -> None:
        """Say where channels are served from now on; an older entry of the same name is replaced."""
        news = {name: where for name, where in channels.items() if self._channels.get(name) != where}
        if not news:
            return
        self._channels = {**self._channels, **news}
        if self._started.is_set() and self._failure is None:
            self._loop.call_soon_threadsafe(self._tell_waiting, news)

    def _tell_waiting(self, news: Mapping[str, Endpoint]) -> None:
        """A client that has asked in vain asks again only after seconds: answer those now that kept the connection
        (pvxs and p4p do; pvaccess closes it after each search)."""
        for client in self._clients:
            for name, endpoint in news.items():
                if (waiting := client.pending.pop(name, None)) is not None:
                    sequence, channel_ids = waiting
                    client.writer.write(search_response(self._guid, sequence, endpoint, channel_ids))

    def forget(self, channels: list[str]) -> None:
        """These channels are not served any more."""
        self._channels = {name: where for name, where in self._channels.items() if name not in channels}

    def where(self, channel: str) -> Endpoint | None:
        """The endpoint of a channel, None when it is not known."""
        return self._channels.get(channel)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise WorldError(
                f"port {self._bind.port} on {self._bind.host} is not free: {self._failure.strerror}",
                hint="give another port range in the site file under [network.ports]",
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._server = self._loop.run_until_complete(
                asyncio.start_server(self._talk, self._bind.host, self._bind.port)
            )
        except OSError as failure:
            self._failure = failure
            self._started.set()
            self._loop.close()
            return
        self._started.set()
        self._loop.run_forever()
        self._server.close()
        for task in self._connections:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._connections, return_exceptions=True))
        self._loop.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        client = _Client(writer)
        self._clients.add(client)
        try:
            writer.write(_message(SET_BYTE_ORDER, b"", flags=FROM_SERVER | CONTROL))
            authentication = struct.pack("<iHB", 0x10000, 0x7FFF, 1) + _string("anonymous")
            writer.write(_message(CONNECTION_VALIDATION, authentication))
            while True:
                await self._answer(reader, client)
        except (OSError, EOFError, struct.error, ValueError):
            pass  # the client went away or does not speak pvAccess: nothing of ours is lost with it
        except asyncio.CancelledError:
            pass  # the server is closing
        finally:
            self._connections.discard(task)
            self._clients.discard(client)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, client: "_Client") -> None:
        writer = client.writer
        header = await reader.readexactly(8)
        magic, _, flags, command = header[:4]
        order = ">" if flags & BIG_ENDIAN else "<"
        (size,) = struct.unpack(order + "I", header[4:])
        if magic != MAGIC or flags & SEGMENTED:
            raise ValueError("not a message that a pvAccess client sends to a name server")
        if flags & CONTROL:
            return  # control messages carry data in the size field and no payload
        if size > MAX_MESSAGE_BYTES:
            raise ValueError("message too long")
        payload = await reader.readexactly(size)
        if command == CONNECTION_VALIDATION:
            writer.write(_message(CONNECTION_VALIDATED, b"\xff"))
        elif command == ECHO:
            writer.write(_message(ECHO, payload))
        elif command == SEARCH:
            self._search(payload, order, client)
        await writer.drain()

    def _search(self, payload: bytes, order: str, client: "_Client") -> None:
        writer = client.writer
        sequence, must_reply, wanted = parse_search(payload, order)
        found: dict[Endpoint, list[int]] = {}
        for channel_id, name in wanted:
            endpoint = self._channels.get(name)
            if endpoint is not None:
                found.setdefault(endpoint, []).append(channel_id)
            elif len(client.pending) < MAX_PENDING:
                _, waiting = client.pending.setdefault(name, (sequence, []))
                if channel_id not in waiting:
                    waiting.append(channel_id)
        for endpoint, channel_ids in found.items():
            writer.write(search_response(self._guid, sequence, endpoint, channel_ids))
        if must_reply and not found:
            writer.write(
                search_response(self._guid, sequence, None, [channel_id for channel_id, _ in wanted])
            )
