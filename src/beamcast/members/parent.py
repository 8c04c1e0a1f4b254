"""Dying with the parent: no process of a run outlives the one that started it."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int, *, by: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel kill this process when its parent thread ends (Linux); exits at once if it already did.

    Call it first thing in the child. The signal is SIGKILL: a child that ignores SIGTERM would be an orphan. `by`:
    another one, for a process that has something to clean up and runs no code but ours.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, by, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)
