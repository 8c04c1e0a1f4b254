"""What a host must have for a run besides folders and a network: open files, semaphores, short paths, a user's name.

Batch nodes, containers and old log-in hosts lack one or the other. What can be worked around is; of the rest the words
here say what is missing and what to do. `beamcast doctor` looks at the same.
"""

import getpass
import multiprocessing
import os
import resource
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from beamcast.core.errors import UsageError, WorldError
from beamcast.core.refusals import refusal

# The controller has some 50 files and connections open, and one for each rank; two, where one takes another's place.
FILES, FILES_PER_RANK, FILES_PER_RANK_WISHED = 96, 1, 2
# What a host gives without being asked; beyond it, what uses select() breaks.
FILES_WISHED = 1024
# A run of a few ranks has some 140 processes and threads beside its controller, most of them those of pvAccess.
TASKS_WANTED = 160
CGROUPS = Path("/sys/fs/cgroup")
# What `multiprocessing` puts below the temporary folder, a socket whose path may have 107 characters.
_LONGEST_FOLDER = 107 - len("/pymp-12345678/listener-12345678")
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


def files_needed(ranks: int) -> int:
    """How many files the controller of a run has to be allowed to open."""
    return FILES + FILES_PER_RANK * ranks


def raise_open_files(needed: int = FILES) -> int:
    """Allow this process, and all that it starts, as many open files as it may have, where it has fewer than is
    usual; returns how many that are. UsageError where they are fewer than `needed`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wished = max(FILES_PER_RANK_WISHED * needed, FILES_WISHED)
    if soft != resource.RLIM_INFINITY and soft < wished:
        soft = wished if hard == resource.RLIM_INFINITY else min(wished, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    allowed = wished if soft == resource.RLIM_INFINITY else soft
    if allowed < needed:
        raise UsageError(
            f"a process may open {allowed} files here, and the run needs {needed}",
            hint=f"raise the limit (`ulimit -n {needed}`; `ulimit -Hn` shows how far), or ask whoever keeps the host",
        )
    return allowed


def tasks_allowed() -> tuple[int | None, str]:
    """How many processes and threads are allowed, and by whom; None: no limit is known."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    # The kernel does not count root's.
    user = [(soft, "ulimit -u")] if soft != resource.RLIM_INFINITY and os.geteuid() else []
    return min([*user, *_pids_max()], default=(None, ""))


def _pids_max() -> Iterator[tuple[int, str]]:
    """The limits of the control groups in which this process is."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "pids"):
            continue
        group = CGROUPS / controllers / path.lstrip("/")
        while group.is_relative_to(CGROUPS):
            with suppress(OSError, ValueError):  # no such limit here: "max", or the root of all groups
                yield int((group / "pids.max").read_text(encoding="ascii")), f"{group}/pids.max"
            group = group.parent


def check_semaphores() -> None:
    """WorldError where processes can't share a lock, as Parsl's workers do."""
    try:
        multiprocessing.get_context("fork").Lock()
    except (OSError, ImportError) as error:
        worded = refusal(error)
        raise WorldError(
            f"Parsl's workers need semaphores, for which /dev/shm has to be there and writable: "
            f"{worded.message if worded is not None else error}",
            hint='mount a tmpfs there (in a container: bind the host\'s /dev/shm), or set executor = "external"',
        ) from error


def make_short_folder(prefix: str) -> str:
    """A new temporary folder in which `multiprocessing` has room for its sockets: below TMPDIR, or where that is too
    long below the usual folders. WorldError where none can be made."""
    why = f"the path of TMPDIR, {tempfile.gettempdir()}, is too long"
    for base in _candidates():
        try:
            folder = tempfile.mkdtemp(prefix=prefix, dir=base)
        except OSError as error:
            why = str(refusal(error) or error)
            continue
        if len(folder) <= _LONGEST_FOLDER:
            return folder
        shutil.rmtree(folder, ignore_errors=True)
    raise WorldError(
        f"no temporary folder can be made whose path has at most {_LONGEST_FOLDER} characters: {why}",
        hint="set TMPDIR to a folder with a short path in which you may write",
    )


def _candidates() -> Iterable[str]:
    with suppress(OSError):  # there is no usable one: each of the others is tried
        yield tempfile.gettempdir()
    yield from _SHORT_FOLDERS


def has_name() -> bool:
    """Whether this account has a name here."""
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        return False
    return True


def name_account() -> None:
    """Parsl asks for the user's name, which a container may not know: the number does as well."""
    if not has_name():
        os.environ["LOGNAME"] = str(os.getuid())
