"""Parsl's worker pool on a node, and nothing that outlives it.

The choice: the pool runs below this process, to which the kernel gives every orphan of it. The pool starts workers and
a helper by `multiprocessing`; when it is killed, or one of them waits for a lock that a dead one held, they would stay
for ever, and their command lines don't say of which run they are.
"""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType

from beamcast.members.parent import die_with_parent

_PR_SET_CHILD_SUBREAPER = 36
# What `multiprocessing` puts below the temporary folder, a socket whose path may have 107 characters.
_LONGEST_FOLDER = 107 - len("/pymp-12345678/listener-12345678")


def command(pool: str) -> str:
    """The shell line that runs Parsl's line `pool` in this way: with the controller's interpreter, where nodes have it
    too."""
    ours = shlex.quote(sys.executable)
    return f'"$(if [ -e {ours} ]; then echo {ours}; else command -v python3; fi)" -m beamcast.members.workers {pool}'


def run_pool(words: Sequence[str]) -> int:
    """Run the pool to its end, and end what it leaves behind; returns its exit status, as a shell tells it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, _end)
    with _temporary_folder():
        try:
            # In a process without threads nothing can go wrong between fork and exec.
            pool = subprocess.Popen(words, preexec_fn=partial(die_with_parent, os.getpid()))
            return _status_of(pool.pid)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _end_children()


@contextmanager
def _temporary_folder() -> Iterator[None]:
    """All that is started below has this folder for temporary files, and it goes with the pool, which is often killed
    and then leaves its own. Where the path would get too long there is none: such a path is a batch job's, and goes
    with the job."""
    with suppress(FileNotFoundError), tempfile.TemporaryDirectory(prefix="bc-") as folder:
        if len(folder) <= _LONGEST_FOLDER:
            os.environ["TMPDIR"] = folder
        yield


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _status_of(pool: int) -> int:
    """Wait for the pool, and take note of each orphan that ends meanwhile."""
    while True:
        pid, status = os.wait()
        if pid == pool:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _end_children() -> None:
    """Their own children become ours as they end, until there are none."""
    with suppress(ChildProcessError):
        while True:
            for child in _children():
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            os.wait()


def _children() -> list[int]:
    """The children of this process, by /proc; a process may end while it is read."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # After the name, which may hold anything: state and parent.
            parent = path.read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                found.append(int(path.parent.name))
    return found


if __name__ == "__main__":
    sys.exit(run_pool(sys.argv[1:]))
