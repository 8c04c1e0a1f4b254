"""A real terminal: a pseudo-terminal that a command controls, whose keys are pressed and whose screen is read."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

CTRL_C, CTRL_BACKSLASH = b"\x03", b"\x1c"
ROWS, COLUMNS = 24, 80


class Terminal:
    """A command in the foreground of a terminal of its own. Use as a context manager."""

    def __init__(self, words: Sequence[str], *, folder: Path, environment: Mapping[str, str]) -> None:
        self._words = list(words)
        self._folder = folder
        self._environment = {**environment, "TERM": "xterm"}
        self._shown = bytearray()
        self._open = False

    def __enter__(self) -> Self:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            self._words,
            cwd=self._folder,
            env=self._environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_as_at_a_login,
        )
        os.close(slave)
        self._open = True
        self._reader = threading.Thread(target=self._read, name="terminal", daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self.close()

    def _read(self) -> None:
        with suppress(OSError):
            while self._open:
                # Not in a blocking read: that would keep the terminal open when its window is closed.
                if select.select([self._master], [], [], 0.1)[0]:
                    self._shown += os.read(self._master, 65536)

    @property
    def shown(self) -> str:
        """Everything that was written to the screen so far."""
        return self._shown.decode(errors="replace")

    def press(self, key: bytes) -> None:
        """Press a key: the terminal makes signals of some, for the whole foreground group."""
        os.write(self._master, key)

    def signal_group(self, number: signal.Signals) -> None:
        """What `timeout`, a shell or a batch system does."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def close(self) -> None:
        """Close the window."""
        if self._open:
            self._open = False
            self._reader.join()
            os.close(self._master)

    def wait_for(self, condition: Callable[[], bool], *, seconds: float) -> bool:
        """Whether it has come true before the command ended and in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            if condition():
                return True
            time.sleep(0.02)
        return condition()

    def ended_within(self, seconds: float) -> float | None:
        """How long it took to end, in seconds; None where it did not."""
        began = time.monotonic()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        return time.monotonic() - began


def _as_at_a_login() -> None:
    """The terminal becomes the session's own, so that its keys are signals and its end is a hangup; and no signal is
    ignored, as those may be of which the tests' own parent did not want to hear."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
