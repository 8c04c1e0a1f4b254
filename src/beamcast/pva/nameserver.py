"""The run's directory: a pvAccess name server that knows where every channel of the run is served.

A pvAccess client reads its list of name servers once, when its first channel is made. Ranks come and go, on hosts
and ports that nobody knows beforehand, so every process of a run is given exactly one name server: this one. It
answers the TCP search of the pvAccess protocol (connection validation, echo and search, nothing else) with the
address at which the channel's server really listens. A restarted rank is found at its new port, a late rank is found
at all, and no UDP search is needed anywhere.

A client that has asked in vain asks again after 1, 2, 4 … 31 s, and one that was sent to a server that has died comes
back after half a minute. So what becomes known is pushed to those that asked: as one more answer to their search, which
every client takes at any time. A pvaccess client keeps its connection for that only as long as nobody tells it that a
channel is not known; then it closes it, since there might be another name server. So it is not told.

Of a channel of others only a server may be known, or a name server. That is asked when a client wants to know, and
once a second as long as one waits: a detector may be away, and may come back at another port. `upstream` servers are
asked in the same way for names that nobody told it: a pvaccess client with more than one name server of its own
crashes (its search manager shares one connection between threads: 8 of 20 clients with six channels on two servers
died, none on one).

Source: the pvAccess protocol specification, sections "Connection validation", "Search request" and "Search
response"; the client accepts an address in the response that differs from the sender's.
"""

import asyncio
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from beamcast.core.errors import WorldError
from beamcast.pva.endpoint import Endpoint, without_line
from beamcast.pva.search import (
    BEACON_GUID_BYTES,
    BIG_ENDIAN,
    CONNECTION_VALIDATED,
    CONNECTION_VALIDATION,
    CONTROL,
    ECHO,
    FROM_SERVER,
    MAGIC,
    REPLY_REQUIRED,
    SEARCH,
    SEGMENTED,
    SET_BYTE_ORDER,
    UNICAST,
    ask,
    find,
    message,
    parse_search,
    search_response,
    string,
)
from beamcast.pva.udp_search import ask_by_udp

__all__ = ["Endpoint", "NameServer", "find"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Names of which one client is told when there is news; beyond that it has to ask again.
MAX_ASKED = 20000
# Different faults of its own that are told; each of them once, since clients ask again and again.
MAX_FAULTS = 20
# Channels of one client that have the same name: it makes new ones when it looks again.
MAX_CHANNELS = 50
# A server that is asked on a client's behalf answers within this time, or not at all.
UPSTREAM_TIMEOUT_S = 3.0
# So often servers are asked for a name that a client waits for, for so many names at a time.
ASK_AGAIN_S = 1.0
ASKED_AT_ONCE = 50
# A search message holds at most a few hundred names; a client that claims more is not a pvAccess client.
MAX_MESSAGE_BYTES = 1 << 20
TCP_LISTEN = "0A"  # include/net/tcp_states.h
# Reading the kernel's list of sockets takes a fifth of a millisecond or, with thousands of them, some: so long after
# it, relative to what it took, the list is good. A run that starts asks for thousands of channels at once.
LISTENING_AGE = 4


@dataclass(slots=True)
class _Asked:
    """A name that a client has asked for, with the sequence number of its search and its ids of the channel."""

    sequence: int
    channel_ids: list[int]
    waits: bool


class _Client:
    """One connection, and what it is told when there is news."""

    __slots__ = ("asked", "writer")

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.asked: dict[str, _Asked] = {}

    def note(self, name: str, sequence: int, channel_id: int, *, waits: bool) -> None:
        """It has asked for a name, and waits for it if that is not known."""
        asked = self.asked.get(name)
        if asked is None:
            if len(self.asked) < MAX_ASKED:
                self.asked[name] = _Asked(sequence, [channel_id], waits)
            return
        asked.sequence, asked.waits = sequence, waits
        if channel_id not in asked.channel_ids:
            asked.channel_ids = [*asked.channel_ids[1 - MAX_CHANNELS :], channel_id]

    def tell(self, guid: bytes, name: str, where: Endpoint) -> None:
        """Say where a name is served, if this client has asked for it."""
        asked = self.asked.get(name)
        if asked is not None:
            asked.waits = False
            self.writer.write(search_response(guid, asked.sequence, where, asked.channel_ids))


async def _ask(server: Endpoint, name: str) -> Endpoint | None:
    """As `ask`; None also of a server that is away, or slow (TimeoutError is an OSError)."""
    with suppress(OSError, EOFError, struct.error, ValueError, IndexError):
        return await asyncio.wait_for(ask(server, name), UPSTREAM_TIMEOUT_S)
    return None


class _LocalServers:
    """Whether a server of this host is still there.

    A client looks for its channel again the moment its server dies, sooner than anybody can tell us of the death, and
    one that is sent to a dead address comes back only after half a minute (measured: 27 to 31 s; 2 s where it was told
    that the channel is not known). Servers of other hosts are not tried: a firewall may answer in their place.
    """

    def __init__(self) -> None:
        self._local: dict[str, bool] = {}
        self._listening: frozenset[int] | None = None
        self._good_until = 0.0

    def refuses(self, endpoint: Endpoint) -> bool:
        """Whether nothing listens there any more. Asks the kernel: a connection that says nothing would keep a
        pvAccess server from accepting others for seconds."""
        if not self._is_local(endpoint.host):
            return False
        began = time.monotonic()
        if began > self._good_until:
            self._listening = _listening_ports()
            now = time.monotonic()
            self._good_until = now + LISTENING_AGE * (now - began)
        return self._listening is not None and endpoint.port not in self._listening

    def _is_local(self, host: str) -> bool:
        if host not in self._local:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                try:
                    probe.bind((host, 0))
                    self._local[host] = True
                except OSError:
                    self._local[host] = False
        return self._local[host]


def _listening_ports() -> frozenset[int] | None:
    """TCP ports on which anybody of this network namespace listens; None where the kernel does not tell."""
    ports = set()
    try:
        for path in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
            with Path(path).open(encoding="utf-8") as lines:
                next(lines)
                words = (line.split(maxsplit=4) for line in lines)
                ports |= {int(each[1].rpartition(":")[2], 16) for each in words if each[3] == TCP_LISTEN}
    except OSError:
        return None
    return frozenset(ports)


class NameServer:
    """Answers pvAccess TCP searches for the channels it was told about. Thread-safe; use as a context manager."""

    def __init__(self, *, host: str, port: int, upstream: Sequence[Endpoint] = ()) -> None:
        """`port` 0 takes any free one; `upstream` servers are asked for channels that nobody told this one."""
        self._bind = Endpoint(host, port)
        self._upstream = tuple(upstream)
        self._channels: dict[str, Endpoint] = {}
        self._guid = os.urandom(BEACON_GUID_BYTES)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="name-server", daemon=True)
        self._started = threading.Event()
        self._failure: OSError | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[Any]] = set()
        self._clients: set[_Client] = set()
        self._to_ask: dict[str, Endpoint] = {}
        self._sought: dict[str, tuple[Endpoint, ...]] = {}
        self._looked_for: set[str] = set()
        self._asking = asyncio.Semaphore(ASKED_AT_ONCE)
        self._gone = _LocalServers()
        self._faults: set[str] = set()

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
            self._loop.call_soon_threadsafe(self._tell, news)

    def _tell(self, news: Mapping[str, Endpoint]) -> None:
        for client in self._clients:
            for name, endpoint in news.items():
                client.tell(self._guid, name, endpoint)

    def ask_at(self, channels: Mapping[str, Endpoint]) -> None:
        """Say which server, or name server, is to be asked where a channel is served, each time that a client wants to
        know. One that is not there now, as a detector that is restarted, is asked again while somebody waits."""
        self._to_ask = {**self._to_ask, **channels}

    def seek(self, channels: Mapping[str, Sequence[Endpoint]]) -> None:
        """Say where to search for a channel by UDP, each second while a client waits for it."""
        self._sought = {**self._sought, **{name: tuple(targets) for name, targets in channels.items()}}

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
        self._bind = Endpoint(self._bind.host, self._server.sockets[0].getsockname()[1])
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
            writer.write(message(SET_BYTE_ORDER, b"", flags=FROM_SERVER | CONTROL))
            authentication = struct.pack("<iHB", 0x10000, 0x7FFF, 1) + string("anonymous")
            writer.write(message(CONNECTION_VALIDATION, authentication))
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
            writer.write(message(CONNECTION_VALIDATED, b"\xff"))
        elif command == ECHO:
            writer.write(message(ECHO, payload))
        elif command == SEARCH:
            self._search(payload, order, client)
        await writer.drain()

    def _search(self, payload: bytes, order: str, client: "_Client") -> None:
        writer = client.writer
        sequence, flags, wanted = parse_search(payload, order)
        found: dict[Endpoint, list[int]] = {}
        unknown = True
        for channel_id, name in wanted:
            known_as = without_line(name)
            endpoint = self._channels.get(known_as)
            if endpoint is not None and self._gone.refuses(endpoint):
                endpoint = None
            client.note(known_as, sequence, channel_id, waits=endpoint is None)
            if endpoint is not None:
                found.setdefault(endpoint, []).append(channel_id)
            elif self._upstream or known_as in self._to_ask or known_as in self._sought:
                unknown = False
                self._look_for(known_as)
        for endpoint, channel_ids in found.items():
            writer.write(search_response(self._guid, sequence, endpoint, channel_ids))
        # Ours say that they ask once and this server alone; pvaccess wants an answer too, and would close.
        once = flags & REPLY_REQUIRED and flags & UNICAST
        if once and unknown and not found:
            writer.write(
                search_response(self._guid, sequence, None, [channel_id for channel_id, _ in wanted])
            )

    def _look_for(self, name: str) -> None:
        if name not in self._looked_for:
            self._looked_for.add(name)
            self._start(self._find_upstream(name))

    async def _find_upstream(self, name: str) -> None:
        """Ask upstream until somebody knows the name or nobody waits for it any more, and tell those that wait."""
        try:
            while self._waiting(name):
                async with self._asking:
                    endpoint = await self._ask_upstream(name)
                if endpoint is not None:
                    for client in self._waiting(name):
                        client.tell(self._guid, name, endpoint)
                    return
                await asyncio.sleep(ASK_AGAIN_S)
        finally:
            self._looked_for.discard(name)

    def _waiting(self, name: str) -> list[_Client]:
        return [each for each in self._clients if name in each.asked and each.asked[name].waits]

    def _start(self, work: "Coroutine[None, None, T]") -> "asyncio.Task[T]":
        task = self._loop.create_task(work)
        self._connections.add(task)
        task.add_done_callback(self._has_ended)
        return task

    def _has_ended(self, task: "asyncio.Task[Any]") -> None:
        self._connections.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and str(error) not in self._faults and len(self._faults) < MAX_FAULTS:
            self._faults.add(str(error))
            logger.error("the name server failed to look for a channel", exc_info=error)

    async def _ask_upstream(self, name: str) -> Endpoint | None:
        """Ask the servers, all at once; the first that knows the channel is believed. The others may finish what they
        say: a pvAccess server accepts nobody else while a conversation that has begun goes no further."""
        given = self._to_ask.get(name)
        asked = [
            self._start(_ask(server, name)) for server in (self._upstream if given is None else (given,))
        ]
        if name in self._sought:
            asked.append(self._start(ask_by_udp(self._sought[name], name)))
        for answer in asyncio.as_completed(asked):
            if (endpoint := await answer) is not None:
                return endpoint
        return None
