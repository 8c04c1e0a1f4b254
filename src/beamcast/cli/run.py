"""`beamcast run`: one run from a workflow and a site, watched until its end."""

import dataclasses
import importlib
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from beamcast.cli.encoding import check_path
from beamcast.cli.ending import Ending
from beamcast.cli.foreground import let_signals_in, work_in_own_session
from beamcast.cli.logs import configure_logging
from beamcast.cli.options import (
    DebugOption,
    NoCheckOption,
    SetOption,
    SetSiteOption,
    SiteOption,
    WorkflowFile,
)
from beamcast.cli.outcome import Quit, error_text, report_status
from beamcast.cli.stop_signals import on_ending_signals
from beamcast.cli.streams import never_wait_for_readers
from beamcast.cli.watch import Watch, output_console
from beamcast.config.check import check_workflow
from beamcast.config.load import load_site, load_workflow
from beamcast.core.errors import UsageError
from beamcast.launch.names_check import check_names
from beamcast.launch.plan import RunPlan
from beamcast.launch.rundir.naming import check_unused, claim
from beamcast.launch.rundir.rundir import RunDir
from beamcast.launch.site_here import check_here
from beamcast.launch.trial import ProcessorCheck
from beamcast.observe.report import Report
from beamcast.observe.tables import summary

if TYPE_CHECKING:
    from beamcast.launch.controller import Controller

Result = TypeVar("Result")
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")

NameOption = Annotated[str | None, typer.Option("--name", help="Name of the run; absent: workflow and time.")]
RunDirOption = Annotated[
    Path | None, typer.Option("--run-dir", help="Run directory; absent: <run_root of the site>/<name>.")
]


ReplaceOption = Annotated[
    bool,
    typer.Option(
        "--replace", help="Remove an ended run of the same name; absent: a number is added to the name."
    ),
]

# What a detached run would have written to the terminal.
CONSOLE_LOG = "console.log"


def make_plan(
    workflow: Path,
    *,
    site: str,
    name: str | None,
    settings: list[str] | None,
    site_settings: list[str] | None,
) -> RunPlan:
    """Load and check everything; ConfigError or UsageError with all that is wrong."""
    loaded = load_workflow(workflow, overrides=settings or ())
    check_workflow(loaded)
    chosen = load_site(site, overrides=site_settings or ())
    run_name = name or f"{loaded.workflow.name}-{time.strftime('%m%d-%H%M%S')}"
    if _RUN_NAME.fullmatch(run_name) is None:
        raise UsageError(
            f"{run_name!r} is no name for a run",
            hint="it becomes part of channel names: letters, digits, '.', '_' and '-', at most 80",
        )
    plan = RunPlan(run=run_name, loaded=loaded, site=chosen)
    check_places(plan)
    check_results(plan)
    check_names(plan)
    return plan


def check_results(plan: RunPlan) -> None:
    """UsageError when results are to be fetched from nodes that nobody can connect to."""
    if plan.workflow.results is None or plan.site.network.nodes.reachable or plan.results_by == "push":
        return
    raise UsageError(
        f"site {plan.site.name} has nodes that nobody can connect to, and the workflow says results by "
        f"{plan.results_by!r}",
        hint="leave `by` out of [results], or say 'push'",
    )


def check_places(plan: RunPlan) -> None:
    """UsageError when a pool does not fit on the site's nodes."""
    for pool in plan.pools:
        try:
            plan.shape(pool)
            for place in plan.places(pool):
                plan.slot(pool, place)
        except ValueError as error:
            raise UsageError(
                f"pool {pool.name} does not fit site {plan.site.name}: {error}",
                hint="change the pool's ranks or distribution, or the site's [allocation]",
            ) from error


def note_of(plan: RunPlan) -> str | None:
    """What one may not expect of a plan that is good."""
    simulation = plan.workflow.source.simulate
    if simulation is None or simulation.file is None or simulation.frames is not None:
        return None
    return (
        f"note: {simulation.file} is played again and again until the run is stopped; "
        "with source.simulate.frames it ends after so many frames"
    )


def check_processors(
    plan: RunPlan,
    *,
    meanwhile: Callable[[], Result],
    leave_out: bool,
    ending: Ending | None = None,
) -> Result:
    """Try the processors with a frame in a process of their own, and do something else `meanwhile`, whose result this
    is. ConfigError with all that is wrong with them. `ending`: what ends this process without a word to us."""
    if leave_out:
        return meanwhile()
    trial = ProcessorCheck(plan)
    if ending is not None:
        ending.gives_back(trial.remove_folder)
    with trial as check:
        result = meanwhile()
        check.finish(lambda text: print(text, file=sys.stderr))
    return result


def run(
    workflow: WorkflowFile,
    site: SiteOption = "local",
    name: NameOption = None,
    run_dir: RunDirOption = None,
    replace: ReplaceOption = False,
    settings: SetOption = None,
    site_settings: SetSiteOption = None,
    debug: DebugOption = False,
    no_check: NoCheckOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing but errors.")] = False,
    detached: Annotated[bool, typer.Option("--detached", hidden=True)] = False,
) -> None:
    """Run WORKFLOW at a site and watch it. Ctrl-C drains the stream and ends; a second one ends within 5 s."""
    quiet = quiet or detached
    plan = make_plan(workflow, site=site, name=name, settings=settings, site_settings=site_settings)
    check_here(plan.site)
    if not quiet and (note := note_of(plan)) is not None:
        print(note, file=sys.stderr)
    ending = begin_ending(detached=detached)
    # A detached run was checked by the command that has started it. Parsl takes a second to import.
    load = partial(importlib.import_module, "beamcast.launch.controller")
    check_processors(plan, meanwhile=load, leave_out=no_check or detached, ending=ending)
    plan, folder = placed(plan, run_dir=run_dir, replace=replace)
    if plan.run != name and name is not None and not quiet:
        print(f"there is a run {name} already: this one is {plan.run}", flush=True)
    try:
        ending.gives_back(partial(give_back, folder))
        conduct(plan, folder, ending, quiet=quiet, debug=debug, detached=detached)
    finally:
        give_back(folder)


def placed(plan: RunPlan, *, run_dir: Path | None, replace: bool) -> tuple[RunPlan, RunDir]:
    """Where the run has its directory, and the plan with the name that it gets: no earlier run is overwritten unless
    it is to be replaced. UsageError, WorldError."""
    if run_dir is not None:
        if not replace:
            check_unused(run_dir)
        return plan, RunDir(run_dir.absolute())
    root = Path(plan.site.run_root).absolute()
    if replace:
        return plan, RunDir(root / plan.run)
    name, folder = claim(root, plan.run)
    return dataclasses.replace(plan, run=name), RunDir(folder)


def give_back(folder: RunDir) -> None:
    """Nothing stays of a run that could not even begin."""
    with suppress(OSError):
        folder.path.rmdir()  # one that has anything in it stays


def begin_ending(*, detached: bool = False) -> Ending:
    """From here on this process is one that the terminal does not know, unless it is `detached` already, and it can be
    told to end. Before EPICS is imported."""
    ending = Ending()
    if not detached:
        work_in_own_session()
        never_wait_for_readers()
    on_ending_signals(ending.asked)
    let_signals_in()
    return ending


def conduct(
    plan: RunPlan,
    folder: RunDir,
    ending: Ending,
    *,
    quiet: bool,
    debug: bool,
    detached: bool = False,
    resumes: bool = False,
) -> NoReturn:
    """Carry out a run, or go on with one whose controller was killed, and leave with its exit status."""
    for path in (plan.base, folder.path):
        check_path(path)
    configure_logging(debug=debug, quiet=quiet, file=folder.logs / "controller.log")
    # Parsl takes a second to import: not before the files are known to be good.
    from beamcast.launch.controller import Controller

    with Watch(output_console(), quiet=quiet) as watch:
        opened = partial(_speak_into, folder.logs / CONSOLE_LOG) if detached else _say_nothing

        def conclude(report: Report) -> int:
            watch.close()
            return _tell_end(report, controller, quiet=quiet, debug=debug)

        controller = Controller(
            plan, folder, watch=watch, opened=opened, resumes=resumes, overdue=ending.end_now
        )
        ending.begin(controller, conclude)
        report = controller.run()
    raise Quit(ending.conclude(report))


def _tell_end(report: Report, controller: "Controller", *, quiet: bool, debug: bool) -> int:
    """Say how the run has ended; returns the exit status."""
    # A good run whose report is not in its place has an error too.
    status = report_status(report) or int(controller.error is not None)
    if not quiet:
        console = output_console()
        if controller.report_path is not None:
            console.print(f"report: {shown_path(controller.report_path)}", soft_wrap=True)
        console.print(summary(report, width=console.width, told_elsewhere=bool(status)))
    if controller.error is not None:
        print(error_text(controller.error, debug=debug), file=sys.stderr)
    elif status and report.verdict is not None:
        print(f"error: {report.verdict.line}", file=sys.stderr)
    return status


def _speak_into(path: Path) -> None:
    """From now on stdout and stderr go into a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


def _say_nothing() -> None:
    """A run on a terminal has nothing to do when its directory is made."""


def shown_path(path: Path) -> str:
    """A path as a user would write it here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
