"""A beamline client in a process of its own: writes down every update of the result PV, knows nothing else of the run.

A line for each update: id, total, when the frame was taken, when its result was made, by which process, when it came
(seconds of the wall clock). It ends when its standard input ends, once its queue is empty.
"""

import argparse
import os
import select
import sys
import time
from pathlib import Path
from typing import Any

from beamcast.pva.environment import apply_environment, client_environment

QUIET_S = 0.5


def line_of(pv: Any) -> str:
    """What is written down of one update."""
    stamp = pv["timeStamp"]
    taken_at = stamp["secondsPastEpoch"] + stamp["nanoseconds"] * 1e-9
    return f"{pv['uniqueId']} {pv['total']!r} {taken_at!r} {pv['made_at']!r} {pv['pid']} {time.time()!r}\n"


def main() -> None:
    """Monitor until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channel", required=True)
    parser.add_argument("--name-server", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    apply_environment(client_environment([arguments.name_server]))
    import pvaccess

    queue = pvaccess.PvObjectQueue(100_000)
    channel = pvaccess.Channel(arguments.channel)
    channel.qMonitor(queue, "record[queueSize=5000]field()")
    ended_at: float | None = None
    with arguments.out.open("w", buffering=1) as out:
        while ended_at is None or time.monotonic() - ended_at < QUIET_S:
            try:
                out.write(line_of(queue.get(0.05)))
            except pvaccess.QueueEmpty:
                if ended_at is None and select.select([sys.stdin], [], [], 0)[0]:
                    ended_at = time.monotonic()
    os._exit(0)  # pvaccess's C++ threads do not survive the interpreter's teardown


if __name__ == "__main__":
    main()
