"""`beamcast get` and `beamcast watch`: the results of a run, or any PV, with nothing but what beamcast brings."""

import os
import sys
from datetime import datetime
from typing import Annotated

import typer

from beamcast.cli.ground import on_stop_signals
from beamcast.cli.options import JsonOption, parse_endpoints
from beamcast.cli.outcome import FAILED, Quit
from beamcast.cli.result_lines import as_json as line_of_json
from beamcast.cli.result_lines import as_text
from beamcast.observe.verdict import LOST
from beamcast.results import QUEUE, Result, ResultReader, read_results

RunOrPvArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN|PV", help="A run directory, a name under ./runs, or a PV.", show_default=False
    ),
]
ServerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--server",
        metavar="HOST:PORT",
        help="Server or name server of a PV; absent: your EPICS settings. Repeatable.",
    ),
]
IdFieldOption = Annotated[
    str | None, typer.Option(help="Field that numbers the results; absent: the run's, or uniqueId.")
]
TimeoutOption = Annotated[float, typer.Option(min=0.001, help="Seconds the PV may take to answer.")]


def get(
    what: RunOrPvArgument,
    server: ServerOption = None,
    id_field: IdFieldOption = None,
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Print the present result of a run, or the present value of a PV, once."""
    reader = _reader(what, server, id_field=id_field, timeout_s=timeout, queue=2)
    with reader:
        latest = reader.latest()
    for pv, result in zip(reader.pvs, latest, strict=True):
        if result is None:
            print(f"{pv} has shown no result yet", file=sys.stderr)
        else:
            _show(result, as_json=as_json)
    if None in latest:
        raise Quit(FAILED)


def watch(
    what: RunOrPvArgument,
    server: ServerOption = None,
    id_field: IdFieldOption = None,
    timeout: TimeoutOption = 30.0,
    results: Annotated[int | None, typer.Option(min=1, help="End after so many results.")] = None,
    idle: Annotated[
        float | None, typer.Option(min=0.001, help="End after so many seconds without a result.")
    ] = None,
    queue: Annotated[
        int, typer.Option(min=2, help="Results that may wait at the server, and here, before some are lost.")
    ] = QUEUE,
    as_json: JsonOption = False,
) -> None:
    """Print one line for each result until the run ends, or Ctrl-C. Ids that did not come are told at the end.

    Exit status 3 where a queue was full and results were lost on their way here.
    """
    reader = _reader(what, server, id_field=id_field, timeout_s=timeout, queue=queue, idle_s=idle)
    shown = 0
    try:
        with reader:
            for result in reader:
                _show(result, as_json=as_json)
                shown += 1
                if shown == results:
                    break
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has had enough
        return
    _tell(reader, shown)


def _reader(
    what: str,
    server: list[str] | None,
    *,
    id_field: str | None,
    timeout_s: float,
    queue: int,
    idle_s: float | None = None,
) -> ResultReader:
    servers = parse_endpoints(server, option="--server")
    reader = read_results(
        what,
        servers=servers,
        id_field=id_field,
        queue=queue,
        timeout_s=timeout_s,
        idle_timeout_s=idle_s,
        on_change=_tell_change,
    )
    on_stop_signals(reader.stop)
    return reader


def _tell_change(pv: str, connected: bool) -> None:
    now = datetime.now().astimezone().isoformat(" ", "seconds")
    print(
        f"{now}  {pv} {'is back' if connected else 'is away; it is waited for'}", file=sys.stderr, flush=True
    )


def _show(result: Result, *, as_json: bool) -> None:
    print(line_of_json(result) if as_json else as_text(result), flush=True)


def _tell(reader: ResultReader, shown: int) -> None:
    """What is to be said of the whole, on stderr."""
    print(f"{shown} results", file=sys.stderr)
    for pv, ids in reader.missing.items():
        print(f"{pv}: no result came for the ids {ids}", file=sys.stderr)
    lost = reader.overruns
    if lost:
        print(
            f"error: at least {lost} results were lost on their way here, since a queue was full; a longer --queue "
            "keeps more",
            file=sys.stderr,
        )
        raise Quit(LOST)
