"""`beamcast mirror`: re-serve a channel, from one network to another."""

import json
import time
from typing import Annotated

import typer

from beamcast.cli.ground import on_stop_signals, stand
from beamcast.cli.options import InterfaceOption, JsonOption, PortOption, parse_endpoints
from beamcast.core.errors import UsageError, WorldError


def mirror(
    source: Annotated[str, typer.Option(help="The channel to mirror.", show_default=False)],
    channel: Annotated[str, typer.Option(help="The channel to serve it as.", show_default=False)],
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Serve there; else --interface and --port count.")
    ] = None,
    interface: InterfaceOption = "lo",
    port: PortOption = None,
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
    if source == channel:
        raise UsageError(f"the mirror of {source} needs a name of its own", hint="give another --channel")
    servers = parse_endpoints(source_server, option="--source-server")
    if listen is not None:
        parse_endpoints([listen], option="--listen")
        interface, port = listen.rpartition(":")[0], int(listen.rpartition(":")[2])
    where = stand(interface=interface, port=port, name_servers=servers)
    from beamcast.pva.mirror import Mirror

    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True

    on_stop_signals(stop)
    with Mirror() as served:
        where.check()
        served.serve(channel, source=source, queue=queue, provider=provider)
        deadline = time.monotonic() + appear_timeout
        while not served.serving(channel) and not stopped:
            if time.monotonic() > deadline:
                raise WorldError(
                    f"the source channel {source} did not appear within {appear_timeout:g} s",
                    hint="is its server running, and is this its exact name? --source-server says where to ask",
                )
            time.sleep(0.01)
        if not stopped:
            print(
                f"mirroring {source} as {channel} at {where.address}:{where.port}; read it with", flush=True
            )
            print(f"  {where.how_to_read(channel)}", flush=True)
        shown_at = time.monotonic()
        while not stopped:
            time.sleep(0.02)
            if time.monotonic() - shown_at >= every:
                shown_at = time.monotonic()
                _show(served.counters(channel), as_json=as_json)
        if served.serving(channel):
            _show(served.counters(channel), as_json=as_json)


def _show(counters: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(counters), flush=True)
    else:
        received, overruns = counters.get("nReceived", 0), counters.get("nOverruns", 0)
        print(f"received {received}, overruns at the source {overruns}", flush=True)
