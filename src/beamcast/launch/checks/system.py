"""Checks of what the operating system gives: the user's name, open files, processes, semaphores, a temporary folder."""

import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

from beamcast.core.errors import BeamcastError
from beamcast.launch.checks.registry import Finding, Ground, check, fail, ok, warn
from beamcast.members.host.needs import (
    TASKS_WANTED,
    check_semaphores,
    files_needed,
    has_name,
    make_short_folder,
    raise_open_files,
    tasks_allowed,
)

RANKS_USUAL = 16
# Enough for the ranks of a log-in host's tests too.
TASKS_GOOD = 512


@check("account")
def account(ground: Ground) -> Iterator[Finding]:
    """The user has a name and a home."""
    if has_name():
        yield ok(f"user {os.getuid()} has a name here")
    else:
        do = "runs use the number; a scheduler may want a name: add an entry to /etc/passwd, or set LOGNAME"
        yield warn(f"user {os.getuid()} has no name here", do)
    home = os.path.expanduser("~")  # noqa: PTH111 - pathlib raises where there is none
    if not Path(home).is_dir():
        do = "runs need none; key files (`beamcast site-key`, `keys`) want a path of their own, or set HOME"
        yield warn(f"there is no home folder at {home!r}", do)


@check("limits")
def limits(ground: Ground) -> Iterator[Finding]:
    """Open files, and processes and threads."""
    try:
        yield ok(f"a process may open {raise_open_files(files_needed(RANKS_USUAL))} files")
    except BeamcastError as error:
        yield fail(error.message, error.hint or "")
    seconds, _ = resource.getrlimit(resource.RLIMIT_CPU)
    if seconds != resource.RLIM_INFINITY:
        do = "a long run's processes are killed at it: raise `ulimit -t`, or run where there is no such limit"
        yield warn(f"a process may use {seconds} s of processor time", do)
    tasks, whose = tasks_allowed()
    if tasks is None:
        yield ok("processes and threads are not limited")
    elif tasks < TASKS_WANTED:
        do = f"a run needs {TASKS_WANTED} and more: raise it, or run where there is no such limit"
        yield fail(f"{tasks} processes and threads are allowed ({whose})", do)
    elif tasks < TASKS_GOOD:
        do = "enough for a few ranks beside each other, not for many"
        yield warn(f"{tasks} processes and threads are allowed ({whose})", do)
    else:
        yield ok(f"{tasks} processes and threads are allowed ({whose})")


@check("semaphores")
def semaphores(ground: Ground) -> Iterator[Finding]:
    """Processes can share locks, as Parsl's workers do."""
    if ground.site.executor != "parsl":
        yield ok(f"not needed: executor {ground.site.executor}")
        return
    check_semaphores()
    yield ok("processes can share locks")


@check("temporary")
def temporary(ground: Ground) -> Iterator[Finding]:
    """A temporary folder with a path that is short enough for sockets."""
    folder = Path(make_short_folder("bc-"))
    folder.rmdir()
    if folder.parent == Path(tempfile.gettempdir()):
        yield ok(f"temporary files go to {folder.parent}")
    else:
        do = "set TMPDIR to a shorter path if ranks write large temporary files"
        yield warn(f"TMPDIR is too long for sockets: ranks get {folder.parent} in its place", do)
