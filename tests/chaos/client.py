"""A beamline client in a process of its own: writes down every update of the result PV, knows nothing else of the run.

A line for each update: id, total, when the frame was taken, when its result was made, by which process, when it came
(seconds of the wall clock). It says "ready" when it receives and the run has begun: frames that are taken from then on
belong to the run. It ends when its standard input ends, once its queue is empty.
"""

import argparse
import contextlib
import os
import select
import sys
import time
from pathlib import Path
from typing import Any

from beamcast.cli.runline import RunLine
from beamcast.core.errors import WorldError
from beamcast.members.join import read_join
from beamcast.pva.environment import apply_environment, client_environment
from beamcast.pva.nameserver import Endpoint, find

QUIET_S = 0.5


def line_of(pv: Any) -> str:
    """What is written down of one update."""
    stamp = pv["timeStamp"]
    taken_at = stamp["secondsPastEpoch"] + stamp["nanoseconds"] * 1e-9
    return f"{pv['uniqueId']} {pv['total']!r} {taken_at!r} {pv['made_at']!r} {pv['pid']} {time.time()!r}\n"


def has_begun(line: RunLine) -> bool:
    """Whether the run counts frames."""
    try:
        report = line.look().report
    except WorldError:
        return False
    return report is not None and report.timing_s.streaming is not None


def wait_until_served(name: str, name_server: str) -> None:
    """A pvaccess channel that is made too early is found late."""
    while True:
        with contextlib.suppress(OSError):
            if find(Endpoint.parse(name_server), name) is not None:
                return
        time.sleep(0.1)


def main() -> None:
    """Monitor until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channel", required=True)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    apply_environment(client_environment([read_join(arguments.run_dir).name_server]))
    import pvaccess

    line = RunLine(arguments.run_dir)
    wait_until_served(arguments.channel, read_join(arguments.run_dir).name_server)
    queue, channel = pvaccess.PvObjectQueue(100_000), pvaccess.Channel(arguments.channel)
    channel.qMonitor(queue, "record[queueSize=5000]field()")
    while not len(queue):
        time.sleep(0.05)
    print("receives", flush=True)
    while not (len(queue) and has_begun(line)):
        time.sleep(0.05)
    print("ready", flush=True)
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
