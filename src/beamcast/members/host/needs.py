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
from collections.abc import Iterable
from contextlib import suppress

from beamcast.core.errors import UsageError, WorldError
from beamcast.core.refusals import refusal

# The controller has some 50 files and connections open, and one or two for each rank.
FILES, FILES_PER_RANK = 96, 2
# What a host gives without being asked; beyond it, what uses select() breaks.
FILES_WISHED = 1024
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
    wished = max(needed, FILES_WISHED)
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
