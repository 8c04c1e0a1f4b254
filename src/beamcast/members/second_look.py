"""Whether a source goes on sending, as a fresh client sees it.

    python -m beamcast.members.second_look PARENT CHANNEL        exit status 0: updates come

A connection of which one end is gone looks like a source that rests, and pvAccess itself takes 30 s to doubt it. A
process of its own connects anew, as a client of the one that doubts can't: clients of one process share a connection.
"""

import os
import subprocess
import sys
import time
from typing import Any

from beamcast.members.command import python_module
from beamcast.members.parent import die_with_parent

LOOK_S = 4.0
# The first update of a monitor is the present value; two more can't come from a source that rests.
UPDATES = 3
_RESTS = 3


class SecondLook:
    """One look at a time at one channel; nothing here waits."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._process: subprocess.Popen[Any] | None = None

    def sends(self) -> bool | None:
        """Whether updates come; None while that is being found out, which begins with the first call."""
        if self._process is None:
            self._process = subprocess.Popen(
                python_module("beamcast.members.second_look", str(os.getpid()), self._channel),
                stdin=subprocess.DEVNULL,
            )
        status = self._process.poll()
        if status is None:
            return None
        self._process = None
        return status == 0

    def close(self) -> None:
        """End a look that is under way."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def main() -> None:
    """Count updates for some seconds."""
    die_with_parent(int(sys.argv[1]))
    import pvaccess

    queue, channel = pvaccess.PvObjectQueue(UPDATES), pvaccess.Channel(sys.argv[2])
    channel.qMonitor(queue, "record[queueSize=10]field(timeStamp)")
    deadline = time.monotonic() + LOOK_S
    while len(queue) < UPDATES and time.monotonic() < deadline:
        time.sleep(0.05)
    # pvaccess's threads may crash or hang at interpreter exit.
    os._exit(0 if len(queue) >= UPDATES else _RESTS)


if __name__ == "__main__":
    main()
