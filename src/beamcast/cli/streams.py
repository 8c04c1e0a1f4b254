"""The three standard streams, as they may be: closed, full, a pipe that nobody reads, a terminal that is gone.

A run does not depend on who watches it. What can't be shown is left out, and the run goes on.
"""

import io
import logging
import os
import queue
import sys
import threading
import time
from contextlib import suppress
from typing import NoReturn, TextIO

import psutil

# Some hundred screens of the live view; more than that, and nobody is reading.
WAITING_WRITES = 256
# How long the last words may take to be read.
FLUSH_S = 2.0
# For the kernel to end processes that were killed, on a machine that has much to do.
KILLED_S = 0.5


def open_closed_streams() -> None:
    """Give descriptors 0, 1 and 2 a place where they are closed, so that no file of ours is opened under their numbers
    and printed into."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            taken = os.open(os.devnull, os.O_RDWR)
            if taken != number:
                os.dup2(taken, number)
                os.close(taken)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - a stream


def never_wait_for_readers() -> None:
    """From here on, what is printed is written by a thread: a reader that does not read holds nobody up, and one that
    has gone away is no error. Lines are left out where too many wait."""
    sys.stdout = _Outlet(sys.stdout)
    sys.stderr = _Outlet(sys.stderr)


class _Outlet(io.TextIOBase):
    """Writes to `stream` by a thread of its own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._waiting: queue.Queue[str] = queue.Queue(WAITING_WRITES)
        self._gone = False
        threading.Thread(target=self._write_out, name="output", daemon=True).start()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream."""
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """Of the stream."""
        return self._stream.errors

    def fileno(self) -> int:
        """Of the stream."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Of the stream."""
        return not self._gone and self._stream.isatty()

    def writable(self) -> bool:
        """It takes everything."""
        return True

    def write(self, text: str) -> int:
        """Hand over to the thread; from any thread."""
        if text and not self._gone:
            try:
                self._waiting.put_nowait(text)
            except queue.Full:
                """Nobody reads: what is shown now may be left out."""
        return len(text)

    def flush(self) -> None:
        """Nothing to do: the thread writes at once. The last words are waited for by `finish`."""

    def finish(self) -> None:
        """Wait until all is written, for `FLUSH_S` at most."""
        deadline = time.monotonic() + FLUSH_S
        while self._waiting.unfinished_tasks and not self._gone and time.monotonic() < deadline:
            time.sleep(0.002)

    def _write_out(self) -> None:
        while True:
            text = self._waiting.get()
            try:
                self._stream.write(text)
                if self._waiting.empty():
                    self._stream.flush()
            except (OSError, ValueError):
                self._gone = True
            finally:
                self._waiting.task_done()


def finish_streams() -> int:
    """Write out what is still waiting; returns 1 where a stream that others read could not be written, else 0."""
    failed = 0
    for stream in (sys.stdout, sys.stderr):
        try:
            if isinstance(stream, _Outlet):
                stream.finish()
            else:
                stream.flush()
        except (OSError, ValueError):
            failed = 1  # whoever reads our output has gone away
    return failed


def tell(text: str) -> None:
    """One line on stderr, from any thread and at any moment."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def leave(status: int) -> NoReturn:
    """End the process, from any thread, without interpreter teardown, in which pvaccess's C++ threads may crash or
    hang."""
    logging.shutdown()
    failed = finish_streams()
    os._exit(status or failed)


def end_children() -> None:
    """Kill everything that this process has started, and what that has started; they are gone when it returns."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        with suppress(psutil.Error):
            child.kill()
    psutil.wait_procs(children, timeout=KILLED_S)
