"""`beamcast status`, `stop` and `report`: asking a run, or what it left behind."""

import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from beamcast.cli.options import JsonOption
from beamcast.cli.runline import FINAL, Look, RunLine, find_run, read_final_report
from beamcast.cli.watch import output_console
from beamcast.core.errors import UsageError
from beamcast.launch.rundir.rundir import REPORT_FILE
from beamcast.observe.report import Report, encode_report
from beamcast.observe.tables import live_view, summary

POLL_S = 0.5

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run directory, or a name under ./runs.", show_default=False)
]


def status(run: RunArgument, as_json: JsonOption = False) -> None:
    """Ask a run how it is doing; of an ended one, show the report."""
    _tell(RunLine(find_run(run)).look(), as_json=as_json)


def stop(
    run: RunArgument,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and show the report.")] = False,
    at_once: Annotated[bool, typer.Option("--now", help="Do not drain the stream.")] = False,
) -> None:
    """End a run: the stream is drained first; a second `stop` ends it at once."""
    folder = find_run(run)
    line = RunLine(folder)
    final = read_final_report(folder)
    if final is None:
        print(line.stop(at_once=at_once))
        if wait:
            final = _wait(line, folder)
    else:
        print("the run has ended; this is its report")
    if final is not None:
        show(final, as_json=False)


def _wait(line: RunLine, folder: Path) -> Report:
    """The final report, as soon as it is there; WorldError when the controller goes without one."""
    while (final := read_final_report(folder)) is None:
        line.look()
        time.sleep(POLL_S)
    return final


def report(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show the report of an ended run."""
    folder = find_run(run)
    final = read_final_report(folder)
    if final is None:
        raise UsageError(
            f"{folder} has no {REPORT_FILE} yet", hint=f"`beamcast status {run}` asks a run that is going on"
        )
    show(final, as_json=as_json)


def _tell(look: Look, *, as_json: bool) -> None:
    if look.report is None:
        print('{"state": "submitted"}' if as_json else look.remark)
        return
    if look.remark and not as_json:
        print(look.remark)
    show(look.report, as_json=as_json)


def show(report: Report, *, as_json: bool) -> None:
    """Print a report: as JSON, or for people."""
    if as_json:
        print(msgspec.json.format(encode_report(report), indent=2).decode())
        return
    console = output_console()
    if report.state in FINAL:
        console.print(summary(report, width=console.width))
        return
    console.print(live_view(report, width=console.width))
