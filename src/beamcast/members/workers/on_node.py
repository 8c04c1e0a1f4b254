"""Parsl's worker pool on a node, and nothing that outlives it.

The choice: the pool runs below this process, to which the kernel gives every orphan of it. The pool starts workers and
a helper by `multiprocessing`; when it is killed, or one of them waits for a lock that a dead one held, they would stay
for ever, and their command lines don't say of which run they are.
"""

import argparse
import ctypes
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType

from beamcast.core.errors import BeamcastError
from beamcast.members.host.needs import check_semaphores, make_short_folder, raise_open_files
from beamcast.members.parent import die_with_parent

# How Parsl's line for a pool begins.
PARSL_POOL = "process_worker_pool.py "
_PR_SET_CHILD_SUBREAPER = 36
# Nobody listens any more where its interchange was: the controller has gone. Parsl's pool (2026.10) notices within
# `PARSL_SILENCE_S` of `beamcast.launch.start.parsl_start`, unless it had not connected yet, or still had a result to
# send: then it waits for ever.
DESERTED_S = 45.0
_CONNECT_S = 2.0
_LOOK_S = 0.2


def command(pool: str) -> str:
    """The shell line that runs Parsl's line `pool` in this way: with the controller's interpreter, where nodes have it
    too."""
    ours = shlex.quote(sys.executable)
    python = f'"$(if [ -e {ours} ]; then echo {ours}; else command -v python3; fi)"'
    words = pool.removeprefix(PARSL_POOL)
    return f"{python} -P -m beamcast.members.workers.on_node -P -m beamcast.members.workers.pool {words}"


def run_pool(words: Sequence[str]) -> int:
    """Run the pool, Python with these arguments, to its end, and end what it leaves behind; returns its exit status,
    as a shell tells it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, _end)
    with _temporary_folder():
        try:
            # In a process without threads nothing can go wrong between fork and exec.
            pool = subprocess.Popen(
                [sys.executable, *words], preexec_fn=partial(die_with_parent, os.getpid())
            )
            return _status_of(pool.pid, words)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _end_children()


@contextmanager
def _temporary_folder() -> Iterator[None]:
    """All that is started below has this folder for temporary files, and it goes with the pool, which is often killed
    and then leaves its own. WorldError where none can be made that will do."""
    folder = os.environ["TMPDIR"] = make_short_folder("bc-")
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _status_of(pool: int, words: Sequence[str]) -> int:
    """Wait for the pool, and take note of each orphan that ends meanwhile. One that hangs is ended."""
    watch = _Watch(words)
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == pool:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if pid:
            continue
        time.sleep(_LOOK_S)
        if watch.hangs(time.monotonic()):
            os.kill(pool, signal.SIGKILL)


class _Watch:
    """Tells a pool that has an interchange from one that waits for ever."""

    def __init__(self, words: Sequence[str]) -> None:
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("-a", dest="addresses", default="")
        parser.add_argument("--port", type=int)
        interchange, _ = parser.parse_known_args(words)
        self._addresses = [address for address in interchange.addresses.split(",") if address]
        self._port = interchange.port
        self._looked_at = self._in_company_at = time.monotonic()

    def hangs(self, now: float) -> bool:
        """Whether its interchange has been gone for too long."""
        if now - self._looked_at >= DESERTED_S / 9:
            self._looked_at = now
            if self._port is None or not self._addresses or any(map(self._may_listen, self._addresses)):
                self._in_company_at = now
        return now - self._in_company_at > DESERTED_S

    def _may_listen(self, address: str) -> bool:
        """Whether the interchange greets who connects, as ZeroMQ does at once. A host that does not answer tells
        nothing, its link may be down; a forwarder whose way ends takes the connection, and closes it."""
        try:
            with socket.create_connection((address, self._port), timeout=_CONNECT_S) as connection:
                return bool(connection.recv(1))
        except (ConnectionRefusedError, ConnectionResetError):
            return False
        except OSError:
            return True


def _end_children() -> None:
    """Their own children become ours as they end, until there are none."""
    with suppress(ChildProcessError):
        while True:
            for child in _children(os.getpid()):
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            os.wait()
            while os.waitpid(-1, os.WNOHANG)[0]:
                """Looking for children costs more than all of them."""


def _children(parent: int) -> list[int]:
    """The children of a process, by /proc; a process may end while it is read."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # After the name, which may hold anything: state and parent.
            if (
                int(path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
                == parent
            ):
                found.append(int(path.parent.name))
    return found


def main() -> int:
    """Entry point. What the node lacks is the last that the job says, and so what the run tells of it."""
    try:
        raise_open_files()
        check_semaphores()
        return run_pool(sys.argv[1:])
    except BeamcastError as error:
        print(f"node {socket.gethostname()}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
