"""`beamcast resume`: go on with a run whose controller was killed."""

from pathlib import Path
from typing import Annotated

import typer

from beamcast.cli.options import DebugOption
from beamcast.cli.query import RunArgument
from beamcast.cli.run import begin_ending, conduct
from beamcast.cli.runline import find_run, read_final_report
from beamcast.config.check import check_workflow
from beamcast.config.load import LoadedWorkflow, load_site, load_workflow
from beamcast.core.errors import UsageError
from beamcast.launch.plan import RunPlan
from beamcast.launch.rundir.books import read_books
from beamcast.launch.rundir.rundir import SITE_FILE, WORKFLOW_FILE, RunDir


def resume(
    run: RunArgument,
    debug: DebugOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing but errors.")] = False,
) -> None:
    """Go on with a run whose controller was killed: in its directory, with its books, and with what lies on disk."""
    folder = find_run(run).absolute()
    conduct(resumed_plan(folder), RunDir(folder), begin_ending(), quiet=quiet, debug=debug, resumes=True)


def resumed_plan(folder: Path) -> RunPlan:
    """The plan of the run; UsageError where it has ended, or keeps nothing to go on with."""
    if read_final_report(folder) is not None:
        raise UsageError(f"the run in {folder} has ended", hint="`beamcast report` shows how")
    books = read_books(folder)
    file = folder / WORKFLOW_FILE
    loaded = LoadedWorkflow(workflow=load_workflow(file).workflow, path=file, base=Path(books.base))
    check_workflow(loaded)
    if loaded.workflow.source.simulate is not None:
        raise UsageError(
            f"the detector of {books.run} was simulated, and its simulator has died with the run",
            hint="runs with a detector of their own can be resumed; start this one again",
        )
    return RunPlan(run=books.run, loaded=loaded, site=load_site(folder / SITE_FILE))
