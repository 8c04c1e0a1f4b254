"""A detector whose ids begin again with each scan, for `test_scans.py`; run as a program of its own.

Arguments: channel. Prints its port. Each line on its standard input, a number of frames and a rate in Hz, is a scan: so
many frames with the ids 1, 2, 3 and so on; it prints the last id when they are sent.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SHAPE = (16, 16)


@dataclass(frozen=True, slots=True)
class Detector:
    """The program, seen from the test."""

    process: "subprocess.Popen[str]"
    address: str

    def scan(self, frames: int, *, rate_hz: float = 200.0) -> None:
        """Let it make a scan; returns when its frames are sent."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{frames} {rate_hz}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == str(frames)


@contextmanager
def scanning_detector(channel: str) -> Iterator[Detector]:
    """Start it, and end it."""
    words = [sys.executable, str(Path(__file__)), channel]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Detector(process, f"127.0.0.1:{process.stdout.readline().strip()}")
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def main(channel: str) -> None:
    """Serve until killed."""
    from beamcast.pva.environment import apply_environment, bound_ports, free_port, server_environment

    port = free_port(47000, 47999, "127.0.0.1", prefer=hash(channel) % 1000)
    apply_environment(server_environment(address="127.0.0.1", port=port))
    import pvaccess

    from beamcast.pva.ndarray import make_ndarray

    server = pvaccess.PvaServer()
    image = np.zeros(SHAPE, dtype=np.uint8)
    server.addRecord(channel, make_ndarray(image, frame_id=0, timestamp_s=time.time()))
    print(bound_ports()[0], flush=True)
    for line in sys.stdin:
        frames, period_s = int(line.split()[0]), 1 / float(line.split()[1])
        for number in range(1, frames + 1):
            image.fill(number % 256)
            server.update(channel, make_ndarray(image, frame_id=number, timestamp_s=time.time()))
            time.sleep(period_s)
        print(frames, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
