"""The signals that ask a command to end, counted whatever its main thread is doing.

The choice: Python runs a signal's handler on the main thread, between two of its own instructions. A main thread that
waits in C code (a socket of ZeroMQ, a file system that is away) would never come to it, and the user's second and third
Ctrl-C would be lost. So the interpreter's C handler writes the signal's number into a pipe (`signal.set_wakeup_fd`),
and a thread of ours reads it.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType

# A service manager, or a batch system, may send one signal to all processes at once: what reaches us twice, directly
# and by the process in front of us, is one request. Two presses of a key are further apart.
SAME_REQUEST_S = 0.05
_PIPE_BYTES = 64


def ending_signals() -> tuple[signal.Signals, ...]:
    """Those that ask for an end: Ctrl-C, `kill`, the end of the terminal, Ctrl-\\. A hangup that was ignored when we
    started stays so: that is what `nohup` is for."""
    hangup = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return (signal.SIGINT, signal.SIGTERM, *hangup, signal.SIGQUIT)


def on_ending_signals(
    asked: Callable[[int], None], *, signals: Sequence[signal.Signals] | None = None
) -> None:
    """From now on `asked` is called with the number of requests to end so far, on a thread of its own. Ctrl-\\ counts
    for three, as it asks for an end without delay. Main thread only; it holds until the process ends."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in signals or ending_signals():
        signal.signal(number, _nothing)
    threading.Thread(target=_count, args=(reader, asked), name="stop-signals", daemon=True).start()


def _nothing(number: int, frame: FrameType | None) -> None:
    """The thread that reads the pipe does what there is to do."""


def _count(reader: int, asked: Callable[[int], None]) -> None:
    count, last, last_at = 0, 0, float("-inf")
    while True:
        for number in os.read(reader, _PIPE_BYTES):
            now = time.monotonic()
            if number not in tuple(ending_signals()) or (number == last and now - last_at < SAME_REQUEST_S):
                continue
            last, last_at = number, now
            count = max(3, count + 1) if number == signal.SIGQUIT else count + 1
            asked(count)
