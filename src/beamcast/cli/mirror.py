"""`beamcast mirror`: re-serve a channel, from one network to another."""

import json
import os
import random
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import Annotated

import typer

from beamcast.cli.ground import FIRST_PORT, LAST_PORT, Stand, on_stop_signals, stand
from beamcast.cli.options import InterfaceOption, JsonOption, PortOption, parse_endpoints
from beamcast.core.errors import UsageError, WorldError
from beamcast.members.names import NameServerProcess
from beamcast.members.standing import ChannelCounts, MirroredChannel, StandingMirror
from beamcast.pva.endpoint import Endpoint
from beamcast.pva.environment import free_port

LOOPBACK = "127.0.0.1"
# The numbers of the process that was here before.
_NUMBERS = "BEAMCAST_MIRROR_NUMBERS"


def mirror(
    source: Annotated[str, typer.Option(help="The channel to mirror.", show_default=False)],
    channel: Annotated[str, typer.Option(help="The channel to serve it as.", show_default=False)],
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE=CHANNEL", help="Another one, such as metadata. Repeatable."),
    ] = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Serve there; else --interface and --port count.")
    ] = None,
    interface: InterfaceOption = "lo",
    port: PortOption = None,
    name_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="TCP port of the name server for clients of pvxs; absent: the next free one.",
        ),
    ] = None,
    source_server: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Server or name server of the source; absent: your EPICS settings. Repeatable.",
        ),
    ] = None,
    provider: Annotated[str, typer.Option(help="How the source is read: pva or ca.")] = "pva",
    queue: Annotated[int, typer.Option(min=1, help="Frames that the source may queue for us.")] = 1000,
    appear_timeout: Annotated[float, typer.Option(help="Seconds the source may take to appear.")] = 30.0,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two lines of counters.")] = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Re-serve a channel with the data distributor, isolating its source and bridging networks. Ctrl-C ends it."""
    if provider not in ("pva", "ca"):
        raise UsageError(f"--provider is pva or ca, not {provider!r}")
    channels = [
        MirroredChannel(*pair, queue=queue, provider=provider) for pair in _pairs(source, channel, also)
    ]
    servers = parse_endpoints(source_server, option="--source-server")
    if listen is not None:
        parse_endpoints([listen], option="--listen")
        interface, port = listen.rpartition(":")[0], int(listen.rpartition(":")[2])
    stopped: list[bool] = []
    on_stop_signals(lambda: stopped.append(True))
    with ExitStack() as stack:
        names = stack.enter_context(_names()) if servers and provider == "pva" else None
        asked = [str(names.endpoint)] if names is not None else servers
        where = stand(interface=interface, port=port, name_servers=asked)
        from beamcast.pva.mirror import Mirror

        served = Mirror().__enter__()
        stack.callback(where.leave, served)
        where.check()
        directory = stack.enter_context(_directory(where, name_port))
        directory.serve_at({each.channel: Endpoint(where.address, where.port) for each in channels})
        # By name where they were given by name: a mirror stands for months, and hosts move.
        looked_for = [Endpoint.parse(each) for each in source_server or ()]
        standing = StandingMirror(
            served,
            channels,
            names=names,
            servers=looked_for,
            own=Endpoint(where.address, where.port),
            before=_before(),
            begin_again=lambda: _begin_again(standing, where, directory),
            directory=directory,
        )
        stack.callback(standing.close)
        if standing.wait(timeout_s=appear_timeout, stopped=stopped):
            _announce(channels, where, directory)
        elif not stopped:
            raise WorldError(
                f"the source channel {source} did not appear within {appear_timeout:g} s",
                hint="is its server running, and is this its exact name? --source-server says where to ask",
            )
        _stay(standing, stopped, every_s=every, as_json=as_json)


def _pairs(source: str, channel: str, also: list[str] | None) -> list[tuple[str, str]]:
    pairs = [(source, channel)]
    for each in also or ():
        one, separator, other = each.partition("=")
        if not (one and separator and other):
            raise UsageError(f"--also is SOURCE=CHANNEL, not {each!r}")
        pairs.append((one, other))
    for one, other in pairs:
        if one == other:
            raise UsageError(f"the mirror of {one} needs a name of its own", hint="give another --channel")
    if len({other for _, other in pairs}) < len(pairs):
        raise UsageError("two channels can't be served under one name")
    return pairs


def _begin_again(standing: StandingMirror, where: Stand, directory: NameServerProcess) -> None:
    """Replace this process by a fresh one that goes on at the same ports."""
    directory.__exit__(None, None, None)
    os.environ[_NUMBERS] = json.dumps([asdict(each) for each in standing.counts()])
    sys.stdout.flush()
    where.leave(standing)
    words = [word for word in sys.orig_argv if not word.startswith(("--listen=", "--port=", "--name-port="))]
    for option in ("--listen", "--port", "--name-port"):
        if option in words:
            at = words.index(option)
            del words[at : at + 2]
    # The environment was ours; what the user had set is in it still.
    ports = ["--listen", f"{where.address}:{where.port}", "--name-port", str(directory.endpoint.port)]
    os.execv(sys.executable, [*words, *ports])


def _before() -> list[ChannelCounts]:
    return [ChannelCounts(**each) for each in json.loads(os.environ.pop(_NUMBERS, "[]"))]


def _names() -> NameServerProcess:
    """The name server of this process's own clients."""
    start = random.randrange(LAST_PORT - FIRST_PORT + 1)
    return NameServerProcess(host=LOOPBACK, port=free_port(FIRST_PORT, LAST_PORT, LOOPBACK, prefer=start))


def _directory(where: Stand, port: int | None) -> NameServerProcess:
    """A name server for the readers: those of pvxs search in a way that the mirror's own server, one of pvaccess, does
    not answer."""
    if port is None:
        prefer = max(where.port + 1 - FIRST_PORT, 0)
        port = free_port(FIRST_PORT, LAST_PORT, where.address, prefer=prefer, taken=[where.port])
    return NameServerProcess(host=where.address, port=port)


def _announce(channels: list[MirroredChannel], where: Stand, directory: NameServerProcess) -> None:
    for each in channels:
        print(f"mirroring {each.source} as {each.channel} at {where.address}:{where.port}; read it with")
        print(f"  {where.how_to_read(each.channel)}", flush=True)
    print(
        f"clients of pvxs (p4p, ophyd-async) find them with EPICS_PVA_NAME_SERVERS={directory.endpoint}",
        flush=True,
    )


def _stay(standing: StandingMirror, stopped: list[bool], *, every_s: float, as_json: bool) -> None:
    shown_at = time.monotonic()
    while not stopped:
        time.sleep(0.05)
        now = time.monotonic()
        standing.tick(now)
        if now - shown_at >= every_s:
            shown_at = now
            _show(standing.counts(), as_json=as_json)
    _show(standing.counts(), as_json=as_json)


def _show(counts: list[ChannelCounts], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(each) for each in counts]), flush=True)
        return
    for each in counts:
        state = "" if each.serving else ", the source is gone"
        overruns = "" if each.overruns is None else f", overruns at the source {each.overruns}"
        numbers = f"received {each.received}{overruns}, comebacks {each.comebacks}"
        print(f"{each.channel}: {numbers}{state}", flush=True)
