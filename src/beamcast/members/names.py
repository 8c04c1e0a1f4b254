"""The run's name server, in a process of its own.

A pvaccess client that waits some tenths of a second for a name server's greeting tries a second time, and when both
tries meet it aborts (an assertion in pvAccessCPP's transport registry, seen under load). So the name server must not
share an interpreter with anything that works: the controller imports Parsl, submits jobs, writes reports.
"""

import json
import logging
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, Self

from beamcast.core.errors import WorldError
from beamcast.members.command import python_module
from beamcast.members.host.exits import end_in_words
from beamcast.members.parent import die_with_parent
from beamcast.pva.endpoint import Endpoint
from beamcast.pva.nameserver import NameServer

logger = logging.getLogger(__name__)

END_DEADLINE_S = 5.0
# One that dies more often than this within so many seconds has a reason that another start does not mend.
RESTARTS, RESTART_WINDOW_S = 5, 60.0
LOOK_S = 0.5
DEFAULT_PORT = 5075
_READY = "ready"
# Those that this process started for its own client: kept, since their pipes hold them alive.
_ASKING: "list[NameServerProcess]" = []


class NameServerProcess:
    """A `NameServer` in a child process; the same methods. Use as a context manager, from one thread at a time."""

    def __init__(self, *, host: str, port: int, upstream: Sequence[Endpoint] = ()) -> None:
        self.endpoint = Endpoint(host, port)
        self._upstream = upstream
        self._channels: dict[str, Endpoint] = {}
        self._asked: dict[str, Endpoint] = {}
        self._sought: dict[str, list[Endpoint]] = {}
        self._process: subprocess.Popen[str] | None = None
        self._revived: deque[float] = deque(maxlen=RESTARTS)

    def __enter__(self) -> Self:
        self._start()
        return self

    def _start(self) -> None:
        import os

        command = python_module("beamcast.members.names", str(os.getpid()))
        self._process = subprocess.Popen(
            [*command, str(self.endpoint), *map(str, self._upstream)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        assert self._process.stdout is not None
        answer = self._process.stdout.readline().strip()
        ready, _, port = answer.partition(" ")
        if ready != _READY:
            self._process.wait()
            raise WorldError(
                answer or "the name server's process ended at once",
                hint="give another port range in the site file under [network.ports]",
            )
        self.endpoint = Endpoint(self.endpoint.host, int(port))

    def revive(self) -> bool:
        """Start the process again where it has died, at its port; what it knew it is told again. Whether it had died.
        Ask a few times a second, on a thread that stays: the process dies with the thread that started it. WorldError
        when it can't be started."""
        assert self._process is not None
        status = self._process.poll()
        if status is None:
            return False
        now = time.monotonic()
        if len(self._revived) == RESTARTS and now - self._revived[0] < RESTART_WINDOW_S:
            raise WorldError(
                f"the name server {self.endpoint} ends again and again: the last time it {end_in_words(status)}"
            )
        self._revived.append(now)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what it was not told any more
                    pipe.close()
        self._start()
        logger.warning("the name server %s %s, started again", self.endpoint, end_in_words(status))
        for word, channels in (("serve", self._channels), ("ask", self._asked)):
            if channels:
                self._tell({word: {name: [where.host, where.port] for name, where in channels.items()}})
        self.seek(self._sought)
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        with self._process as process:  # closes its pipes, by which it ends
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(END_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def serve_at(self, channels: Mapping[str, Endpoint]) -> None:
        """Say where channels are served from now on; an older entry of the same name is replaced."""
        news = {name: where for name, where in channels.items() if self._channels.get(name) != where}
        if news:
            self._channels.update(news)
            self._tell({"serve": {name: [where.host, where.port] for name, where in news.items()}})

    def ask_at(self, channels: Mapping[str, Endpoint]) -> None:
        """Say which server is to be asked where a channel is served; see `NameServer.ask_at`."""
        if channels:
            self._asked.update(channels)
            self._tell({"ask": {name: [where.host, where.port] for name, where in channels.items()}})

    def seek(self, channels: Mapping[str, Sequence[Endpoint]]) -> None:
        """Say where to search for channels by UDP; see `NameServer.seek`."""
        if channels:
            self._sought.update({name: list(targets) for name, targets in channels.items()})
            self._tell(
                {"seek": {name: [[each.host, each.port] for each in at] for name, at in channels.items()}}
            )

    def forget(self, channels: list[str]) -> None:
        """These channels are not served any more."""
        known = [name for name in channels if self._channels.pop(name, None) is not None]
        if known:
            self._tell({"forget": known})

    def where(self, channel: str) -> Endpoint | None:
        """The endpoint of a channel, None when it is not known."""
        return self._channels.get(channel)

    def _tell(self, news: Mapping[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        # A successor is told all that this one knew, and the news with it.
        with suppress(OSError):
            self._process.stdin.write(json.dumps(news) + "\n")
            self._process.stdin.flush()


def only_name_server(servers: Sequence[str]) -> list[str]:
    """At most one "host:port" by which a pvaccess client reaches what all `servers` know: pvaccess crashes with more
    than one (see `pva.nameserver`)."""
    return list(servers) if len(servers) < 2 else [asking_name_server(servers)]


def asking_name_server(servers: Sequence[str]) -> str:
    """The "host:port" of a name server on loopback that asks `servers`; it ends with this process.

    A client of it finds a channel within a second of its being served, or served again.
    """
    asking = NameServerProcess(host="127.0.0.1", port=0, upstream=[_endpoint(each) for each in servers])
    _ASKING.append(asking.__enter__())
    if len(_ASKING) == 1:
        threading.Thread(target=_look_after, name="name-servers", daemon=True).start()
    return str(asking.endpoint)


def _look_after() -> None:
    while True:
        time.sleep(LOOK_S)
        for asking in _ASKING:
            try:
                asking.revive()
            except WorldError as error:
                logger.error("%s; channels that are served elsewhere from now on are not found", error)
                return


def _endpoint(text: str) -> Endpoint:
    """As pvaccess reads its list: a name server without a port has the protocol's own."""
    return Endpoint.parse(text if ":" in text else f"{text}:{DEFAULT_PORT}")


def follow(server: NameServer, news: IO[str]) -> None:
    """Do what the lines say, until there are no more."""
    for line in news:
        message = json.loads(line)
        server.serve_at({name: Endpoint(*where) for name, where in message.get("serve", {}).items()})
        server.ask_at({name: Endpoint(*where) for name, where in message.get("ask", {}).items()})
        server.seek({name: [Endpoint(*each) for each in at] for name, at in message.get("seek", {}).items()})
        server.forget(message.get("forget", []))


def main() -> None:
    """Entry point of the process: the parent's pid, host and port."""
    parent, *servers = sys.argv[1:]
    die_with_parent(int(parent))
    ours, *upstream = map(Endpoint.parse, servers)
    try:
        with NameServer(host=ours.host, port=ours.port, upstream=upstream) as server:
            print(_READY, server.endpoint.port, flush=True)
            follow(server, sys.stdin)
    except WorldError as error:
        print(error.message, flush=True)


if __name__ == "__main__":
    main()
