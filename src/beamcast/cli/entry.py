"""Where the command `beamcast` begins: the commands take half a second to import, in which it may be told to end."""

import os
import signal
from types import FrameType
from typing import NoReturn

# As shells tell it: this, and the number of the signal.
_ENDED_BY_SIGNAL = 128


def main() -> NoReturn:
    """Entry point."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupted)
    try:
        from beamcast.cli.main import main as run_command
    except KeyboardInterrupt:
        _interrupted(signal.SIGINT, None)
    run_command()


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    """Commands that have something to end take the signals over when they begin it."""
    try:
        os.write(2, b"interrupted\n")
    except OSError:
        """Nobody is there to read it."""
    os._exit(_ENDED_BY_SIGNAL + number)
