"""A command in two processes: one that the terminal knows, and one that does the work in a session of its own.

The choice: a terminal sends its signals to every process of the foreground group, and so do `timeout`, `ssh` and
shells. What a run starts by way of libraries (Parsl's interchange, commands of the scheduler) would get each Ctrl-C,
too, and die in the middle of its work. Here the terminal sees one small process alone, which passes each signal on to
the one that can end everything in order.

It has to be done before EPICS is imported: its threads do not survive a fork.
"""

import os
import signal
import sys
import time

from beamcast.cli.stop_signals import ending_signals
from beamcast.members.parent import die_with_parent

LOOK_S = 1.0
# Someone who asks for the third time wants it over. The worker ends within seven seconds by itself, unless it is
# stopped or hangs in the kernel.
FORCED_AFTER = 3
FORCED_S = 9.0
_ENDED_BY_SIGNAL = 128


def work_in_own_session() -> None:
    """Return in a child that is the leader of a session of its own. The caller's process stays in front: it passes on
    signals, waits, and leaves with the child's exit status; when it is killed the child dies too.

    Call it while there is one thread. The signals of `ending_signals` are blocked when it returns, so that none is
    lost before the child has told what to do with them (`let_signals_in`).
    """
    assert "pvaccess" not in sys.modules
    signals = ending_signals()
    signal.pthread_sigmask(signal.SIG_BLOCK, {*signals, signal.SIGCHLD})
    front = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    child = os.fork()
    if child:
        os._exit(_stay_in_front(child, {*signals}))
    os.setsid()
    die_with_parent(front)


def let_signals_in() -> None:
    """The child has its handlers: signals that came meanwhile arrive now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*ending_signals(), signal.SIGCHLD})


def _stay_in_front(child: int, signals: set[signal.Signals]) -> int:
    """The exit status to leave with."""
    asked, forced_at = 0, float("inf")
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return _exit_status(status)
        if time.monotonic() >= forced_at:
            os.kill(child, signal.SIGKILL)
        came = signal.sigtimedwait({*signals, signal.SIGCHLD}, LOOK_S)
        if came is None or came.si_signo == signal.SIGCHLD:
            continue
        asked += 1
        os.kill(child, came.si_signo)
        if asked >= FORCED_AFTER or came.si_signo == signal.SIGQUIT:
            forced_at = min(forced_at, time.monotonic() + FORCED_S)


def _exit_status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code
    name = signal.Signals(-code).name
    text = (
        f"error: the run's controller was ended by {name}; what it had started ends by itself within a minute. "
        "`beamcast list` shows the run, and `beamcast resume` can go on with it\n"
    )
    try:
        os.write(2, text.encode())
    except OSError:
        """Nobody is there to read it."""
    return _ENDED_BY_SIGNAL - code
