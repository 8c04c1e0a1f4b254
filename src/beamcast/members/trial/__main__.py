"""A process in which the users' processors are tried before a run: `python -m beamcast.members.trial --parent PID`.

It reads the trial (`beamcast.members.trial.job`) from its standard input, forks, and lets the child do it. What the
child tells comes out as lines of JSON on the standard output, and a last line from here: how the child ended, and the
last lines that it printed.

The choice: this process runs no user's code and imports nothing large. So it is there to end the child at its deadline
with everything that it has started, whatever session those processes have chosen: they become children of this one when
their parent ends (a subreaper). It ends with who started it, and then ends them too.
"""

import argparse
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from beamcast.members.parent import die_with_parent

_PR_SET_CHILD_SUBREAPER = 36
# The end of what it printed, where the reason of a crash stands.
_SAID_BYTES = 4000
# Enough for a large library, and no more than half of what the host has left.
_LEAST_MEMORY_BYTES = 2 * 2**30
# Processes may be started while others are being ended.
_ROUNDS = 50


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--deadline", type=float, required=True, help="in seconds")
    parser.add_argument(
        "--folder", type=Path, required=True, help="an empty one, which is removed at the end"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    die_with_parent(arguments.parent, by=signal.SIGTERM)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    job = sys.stdin.buffer.read()
    try:
        supervise(job, arguments.folder, deadline_s=arguments.deadline)
    finally:
        end_descendants()
        shutil.rmtree(arguments.folder, ignore_errors=True)


def supervise(job: bytes, folder: Path, *, deadline_s: float) -> None:
    """Let a child do the trial; what it tells goes to the standard output."""
    heard, telling = os.pipe()
    said, saying = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(heard)
        os.close(said)
        _be_the_child(job, folder, telling=telling, saying=saying)
    os.close(telling)
    os.close(saying)
    last = _Tail(said)
    timed_out = not _pass_on(heard, until=time.monotonic() + deadline_s)
    if timed_out:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    end_descendants()
    ended = {"event": "ended", "status": os.waitstatus_to_exitcode(status), "timed_out": timed_out}
    print(json.dumps({**ended, "said": last.text()}), flush=True)


def _be_the_child(job: bytes, folder: Path, *, telling: int, saying: int) -> None:
    status = 1
    try:
        os.setsid()
        die_with_parent(os.getppid())
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(saying, 1)
        os.dup2(saying, 2)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
        sys.dont_write_bytecode = True  # no __pycache__ in the user's folder
        memory_bytes = _bound_resources()
        from beamcast.members.trial.job import decode_trial
        from beamcast.members.trial.rehearsal import rehearse

        with os.fdopen(telling, "w", encoding="utf-8", buffering=1) as out:
            rehearse(
                decode_trial(job),
                folder,
                memory_bytes=memory_bytes,
                tell=lambda **event: print(json.dumps(event), file=out),
            )
        status = 0
    finally:
        # pvaccess and users' libraries have threads whose teardown may hang.
        os._exit(status)


def _bound_resources() -> int:
    """No core files; memory as said above. The limit is on writable memory: address space alone would refuse GPU
    libraries, which reserve far more of it than they use. Gives the limit in bytes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = max(_LEAST_MEMORY_BYTES, available // 2)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    return limit


def _pass_on(heard: int, *, until: float) -> bool:
    """Copy lines to the standard output until there are no more; False when time is up before."""
    while True:
        ready, _, _ = select.select([heard], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            return False
        chunk = os.read(heard, 65536)
        if not chunk:
            return True
        sys.stdout.write(chunk.decode(errors="replace"))
        sys.stdout.flush()


class _Tail:
    """Reads a pipe on a thread, so that nobody has to wait for us, and keeps the end."""

    def __init__(self, descriptor: int) -> None:
        self._kept = b""
        self._thread = threading.Thread(target=self._read, args=(descriptor,), daemon=True)
        self._thread.start()

    def _read(self, descriptor: int) -> None:
        while chunk := os.read(descriptor, 65536):
            self._kept = (self._kept + chunk)[-_SAID_BYTES:]

    def text(self) -> str:
        """What came last. All that has the pipe has ended by now, or will not."""
        self._thread.join(timeout=1.0)
        return self._kept.decode(errors="replace")


def end_descendants() -> None:
    """Kill everything that was started from here, and what that has started, until nothing is left."""
    for _ in range(_ROUNDS):
        found = _descendants()
        for pid in found:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
            time.sleep(0.01)
            continue
        return


def _descendants() -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            stat = (entry / "stat").read_text(encoding="ascii", errors="replace")
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    ours, more = {os.getpid()}, True
    while more:
        added = {pid for pid, parent in parents.items() if parent in ours} - ours
        ours |= added
        more = bool(added)
    return sorted(ours - {os.getpid()})


if __name__ == "__main__":
    main()
