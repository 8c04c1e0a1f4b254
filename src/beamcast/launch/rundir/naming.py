"""A folder of its own for each run: an earlier one is never overwritten unless somebody says so."""

from pathlib import Path

from beamcast.core.errors import UsageError
from beamcast.core.refusals import refusal
from beamcast.launch.rundir.books import BOOKS_FILE
from beamcast.launch.rundir.lease import LEASE_FILE, ownership, read_lease
from beamcast.launch.rundir.ownership import Ownership
from beamcast.launch.rundir.rundir import REPORT_FILE

# Nobody counts further; a folder in which nothing can be made must not be tried for ever.
MOST_RUNS = 100_000


def claim(root: Path, name: str) -> tuple[str, Path]:
    """Make the folder of a new run below `root`, and return the run's name with it: `name`, or name-2, name-3 and so
    on where there is one already. Two that ask at the same time get two. WorldError where it can't be made."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        for number in range(1, MOST_RUNS):
            given = name if number == 1 else f"{name}-{number}"
            try:
                (root / given).mkdir()
            except FileExistsError:
                continue
            return given, root / given
    except OSError as error:
        raise refusal(error, doing="a run directory can't be made here") or error from error
    raise UsageError(f"{root} has {MOST_RUNS} runs of the name {name}", hint="give another --name")


def check_unused(folder: Path) -> None:
    """UsageError where an earlier run has left something in the folder. One that goes on is not looked at: whoever
    wants its lease is told."""
    lease = read_lease(folder)
    if lease is not None and ownership(folder, lease) is Ownership.LIVES:
        return
    if not (folder / LEASE_FILE).exists() and not (folder / REPORT_FILE).exists():
        return
    hint = "--replace removes it; or give another --run-dir"
    if not (folder / REPORT_FILE).exists() and (folder / BOOKS_FILE).exists():
        hint = f"its controller has died: `beamcast resume {folder}` goes on with it, {hint}"
    raise UsageError(f"an earlier run is in {folder}", hint=hint)
