"""The command `beamcast`: its commands, and what becomes of their errors.

What exit statuses mean stands in `EXIT_STATUSES`, which `beamcast --help` shows.
"""

import logging
import sys
import traceback
from typing import Annotated, NoReturn

import typer

import beamcast
from beamcast.cli import (
    attach,
    control,
    doctor,
    examples,
    info,
    keys,
    mirror,
    network,
    plan,
    query,
    rank,
    read,
    record,
    resume,
    run,
    run_logs,
    runs,
    scale,
    simulate,
    site_key,
    submit,
)
from beamcast.cli.encoding import speak_utf8
from beamcast.cli.outcome import INTERRUPTED, Quit, error_text
from beamcast.cli.streams import leave, open_closed_streams
from beamcast.core.errors import BeamcastError
from beamcast.core.refusals import refusal

EXIT_STATUSES = (
    "Exit status: 0 good; 1 failed, or stopped before its end; 2 the command or a file is wrong; 3 a run lost more "
    "frames than allow_lost; 4 more frames failed than max_failed; 5 a run gave nothing. "
    "See docs/reference/exit-status.md."
)

app = typer.Typer(
    name="beamcast",
    help="Launch streaming pools inside batch allocations and bring the results back as PVs.",
    epilog=EXIT_STATUSES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"beamcast {beamcast.__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version of beamcast.", is_eager=True, callback=_tell_version
        ),
    ] = False,
) -> None:
    """Launch streaming pools inside batch allocations and bring the results back as PVs."""


app.command("run")(run.run)
app.command("plan")(plan.plan)
app.command("submit")(submit.submit)
app.command("attach")(attach.attach)
app.command("resume")(resume.resume)
app.command("status")(query.status)
app.command("stop")(query.stop)
app.command("scale")(scale.scale)
app.command("control")(control.control)
app.command("report")(query.report)
app.command("list")(runs.list_runs)
app.command("logs")(run_logs.logs)
app.command("get")(read.get)
app.command("watch")(read.watch)
app.command("sim")(simulate.sim)
app.command("record")(record.record)
app.command("mirror")(mirror.mirror)
app.add_typer(network.app, name="network")
app.command("consumer")(rank.consumer)
app.command("collector")(rank.collector)
app.command("doctor")(doctor.doctor)
app.command("site-key")(site_key.site_key)
app.command("sites")(info.sites)
app.command("examples")(examples.examples)
app.add_typer(keys.app)
app.command("schema")(info.schema)
app.command("version")(info.version)


def call(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status; errors are told on stderr."""
    try:
        app(args=arguments, prog_name="beamcast")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except Quit as quitting:
        return quitting.status
    except BeamcastError as error:
        return _tell(error)
    except Exception as error:  # noqa: BLE001 - the boundary of the process
        refused = refusal(error)
        if refused is not None:
            refused.__cause__ = error
            return _tell(refused)
        traceback.print_exc()
        print("error: this is a fault of beamcast; please report it with the lines above", file=sys.stderr)
        return 1
    return 0


def _tell(error: BeamcastError) -> int:
    debug = logging.getLogger("beamcast").isEnabledFor(logging.DEBUG)
    if debug:
        traceback.print_exception(error)
    print(error_text(error, debug=debug), file=sys.stderr)
    return error.exit_code


def main() -> NoReturn:
    """Run the command and leave."""
    open_closed_streams()
    speak_utf8()
    try:
        status = call()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = INTERRUPTED
    leave(status)
