"""`beamcast list`: the runs of a folder, with what came of them."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from beamcast.cli.options import JsonOption, SiteOption
from beamcast.cli.runline import read_final_report
from beamcast.cli.watch import output_console
from beamcast.config.load import load_site
from beamcast.core.errors import UsageError
from beamcast.launch.rundir.books import BOOKS_FILE
from beamcast.launch.rundir.lease import LEASE_FILE, ownership, read_lease
from beamcast.launch.rundir.ownership import Ownership
from beamcast.launch.rundir.rundir import REPORT_FILE, STATE_FILE
from beamcast.observe.report import Report, decode_report
from beamcast.observe.runs import RunEntry, entry_of, runs_table

RunsOption = Annotated[
    Path | None,
    typer.Option("--runs", metavar="DIR", help="The folder of the runs; absent: run_root of the site."),
]


def list_runs(site: SiteOption = "local", runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """List the runs of a folder, the newest last: state, date, frames, lost, verdict."""
    root = runs if runs is not None else Path(load_site(site).run_root)
    if runs is not None and not root.is_dir():
        raise UsageError(f"{root} is no folder", hint="--runs names the folder that holds run directories")
    entries = sorted(entries_of(root), key=lambda entry: entry.began)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(entries), indent=2).decode())
        return
    if not entries:
        print(f"no runs in {root}")
        return
    console = output_console()
    dates = [_local(entry.began) for entry in entries]
    console.print(runs_table(entries, width=console.width, dates=dates))


def entries_of(root: Path) -> list[RunEntry]:
    """What can be said of each run in a folder."""
    if not root.is_dir():
        return []
    folders = [path for path in root.iterdir() if path.is_dir()]
    return [_entry(path) for path in folders if (path / LEASE_FILE).exists() or (path / REPORT_FILE).exists()]


def _entry(folder: Path) -> RunEntry:
    began = _began(folder)
    try:
        report = read_final_report(folder)
    except UsageError as error:
        return RunEntry(
            run=folder.name, folder=str(folder), state="unknown", began=began, verdict=error.message
        )
    if report is not None:
        return msgspec.structs.replace(entry_of(report, folder=str(folder), began=began), run=folder.name)
    lease, so_far = read_lease(folder), _so_far(folder)
    state = Ownership.GONE if lease is None else ownership(folder, lease)
    if state is not Ownership.LIVES:
        return _without_controller(folder, so_far, began)
    assert lease is not None
    where = f"goes on: pid {lease.pid} on {lease.host}"
    if so_far is None:
        return RunEntry(run=folder.name, folder=str(folder), state="submitted", began=began, verdict=where)
    entry = entry_of(so_far, folder=str(folder), began=began)
    return msgspec.structs.replace(entry, run=folder.name, verdict=where)


def _without_controller(folder: Path, so_far: Report | None, began: str) -> RunEntry:
    """Its controller has died: nobody has written a report, or will."""
    can_go_on = (folder / BOOKS_FILE).exists()
    hint = f"; `beamcast resume {folder}` goes on with it" if can_go_on else ", without a report"
    return RunEntry(
        run=folder.name,
        folder=str(folder),
        state="dead",
        began=began if so_far is None else so_far.began or began,
        frames=None if so_far is None else so_far.frames.source,
        verdict=f"its controller has died{hint}",
    )


def _so_far(folder: Path) -> Report | None:
    try:
        return decode_report((folder / STATE_FILE).read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None


def _began(folder: Path) -> str:
    """When the run began, of one that does not say so itself: its oldest file was written then."""
    times = [path.stat().st_mtime for path in folder.iterdir() if path.is_file()]
    return datetime.fromtimestamp(min(times, default=time.time()), UTC).isoformat(timespec="seconds")


def _local(began: str) -> str:
    return datetime.fromisoformat(began).astimezone().strftime("%Y-%m-%d %H:%M")
