"""`beamcast submit`: a run that goes on without the terminal that started it.

The choice: the same command as `beamcast run`, in a session of its own, with its words in the run directory. What it
says before it has a run directory (a wrong file, a directory that is taken) comes to the user here.
"""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import IO, Any

from beamcast.cli.attach import shown_name
from beamcast.cli.options import (
    DebugOption,
    NoCheckOption,
    SetOption,
    SetSiteOption,
    SiteOption,
    WorkflowFile,
)
from beamcast.cli.outcome import INTERRUPTED, Quit
from beamcast.cli.run import (
    CONSOLE_LOG,
    NameOption,
    ReplaceOption,
    RunDirOption,
    check_processors,
    give_back,
    make_plan,
    note_of,
    placed,
    shown_path,
)
from beamcast.cli.runline import read_final_report
from beamcast.core.errors import WorldError
from beamcast.launch.rundir.lease import read_lease
from beamcast.launch.rundir.rundir import RunDir
from beamcast.launch.site_here import check_here
from beamcast.members.command import python_module
from beamcast.observe.lines import allocation_line
from beamcast.observe.report import Report, decode_report

POLL_S = 0.05
# From the start of the process until the scheduler has taken the job, or the ranks are being started: imports and
# one command of the scheduler, which may be slow on a busy login node.
BEGIN_TIMEOUT_S = 60.0
# For each request to end, when the user takes a submission back.
TAKE_BACK_S = 4.0
# One that has failed is given the time to say why.
_NOT_BEGUN = ("submitted", "failed", "cancelled")


def submit(
    workflow: WorkflowFile,
    site: SiteOption = "local",
    name: NameOption = None,
    run_dir: RunDirOption = None,
    replace: ReplaceOption = False,
    settings: SetOption = None,
    site_settings: SetSiteOption = None,
    no_check: NoCheckOption = False,
    debug: DebugOption = False,
) -> None:
    """Start a run of WORKFLOW at a site that goes on by itself; returns when the scheduler has its job."""
    plan = make_plan(workflow, site=site, name=name, settings=settings, site_settings=site_settings)
    check_here(plan.site)
    if (note := note_of(plan)) is not None:
        print(note, file=sys.stderr)
    check_processors(plan, meanwhile=lambda: None, leave_out=no_check)
    plan, folder = placed(plan, run_dir=run_dir, replace=replace)
    words = python_module("beamcast", "run", str(workflow), "--detached", f"--site={site}")
    words += [f"--name={plan.run}", f"--run-dir={folder.path}"]
    words += [f"--set={each}" for each in settings or ()] + [
        f"--set-site={each}" for each in site_settings or ()
    ]
    words += ["--debug"] if debug else []
    words += ["--replace"] if replace else []
    try:
        with tempfile.TemporaryFile() as said:
            process = _start(words, said)
            try:
                report = _wait_until_begun(process, folder, said)
            except KeyboardInterrupt:
                raise _take_back(process) from None
    finally:
        give_back(folder)
    name_here = shown_name(folder.path, plan.run)
    print(f"{plan.run} is {report.state}; its directory is {shown_path(folder.path)}")
    if (line := allocation_line(report)) is not None:
        print(line)
    print(f"look: beamcast status {name_here} | attach {name_here}; end it: beamcast stop {name_here}")


def _start(words: list[str], said: IO[bytes]) -> "subprocess.Popen[Any]":
    """A session of its own: neither Ctrl-C nor the end of the terminal reaches it."""
    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
    )


def _wait_until_begun(process: "subprocess.Popen[Any]", folder: RunDir, said: IO[bytes]) -> Report:
    """The run's first report in which its allocation has been asked for. Quit with the status of a run that has ended
    before, WorldError when nothing happens in time."""
    deadline = time.monotonic() + BEGIN_TIMEOUT_S
    while True:
        ended = process.poll()
        ours = (lease := read_lease(folder.path)) is not None and lease.pid == process.pid
        report = _report_so_far(folder) if ours else None
        if report is not None and report.state not in _NOT_BEGUN:
            return report
        if ended is not None:
            _tell_end(ended, folder, said, ours=ours)
        if time.monotonic() > deadline:
            raise WorldError(
                f"the run did not begin within {BEGIN_TIMEOUT_S:g} s",
                hint=f"it goes on trying as pid {process.pid}; its log is in {folder.logs}",
            )
        time.sleep(POLL_S)


def _take_back(process: "subprocess.Popen[Any]") -> Quit:
    """The user has changed their mind: what was begun is ended, and its job with it."""
    print("taking it back: the run is told to end", file=sys.stderr, flush=True)
    # Twice is without draining, thrice without waiting.
    for patience_s in (TAKE_BACK_S, TAKE_BACK_S, TAKE_BACK_S):
        process.terminate()
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(patience_s)
            print("the submission is taken back", file=sys.stderr)
            return Quit(INTERRUPTED)
    print(
        f"error: pid {process.pid} does not end; look for its job with the scheduler's commands",
        file=sys.stderr,
    )
    return Quit(INTERRUPTED)


def _report_so_far(folder: RunDir) -> Report | None:
    try:
        return read_final_report(folder.path) or decode_report(folder.state.read_bytes())
    except FileNotFoundError:
        return None


def _tell_end(status: int, folder: RunDir, said: IO[bytes], *, ours: bool) -> None:
    """Pass on what the run has said, and its status."""
    said.seek(0)
    words = said.read()
    if ours:
        words += (folder.logs / CONSOLE_LOG).read_bytes()
    os.write(2, words)
    raise Quit(status)
