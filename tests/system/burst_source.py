"""A source that sends bursts, for `test_result_queues.py`; run as a program in a process of its own.

Arguments: channel, bursts, frames in each, and the file whose appearance starts them. Prints its port, then stays.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np

PERIOD_S = 0.125


def main(channel: str, bursts: int, frames: int, go: Path) -> None:
    """Serve until killed. A burst of one comes first, so that nobody's first frame is one that counts."""
    from beamcast.pva.environment import apply_environment, bound_ports, free_port, server_environment

    port = free_port(45000, 45999, "127.0.0.1", prefer=os.getpid() % 1000)
    apply_environment(server_environment(address="127.0.0.1", port=port))
    import pvaccess

    from beamcast.pva.ndarray import make_ndarray

    server = pvaccess.PvaServer()
    server.addRecord(channel, pvaccess.NtNdArray())
    print(bound_ports()[0], flush=True)
    while not go.exists():
        time.sleep(0.05)
    number = 0
    for burst in range(-8, bursts):
        for _ in range(1 if burst < 0 else frames):
            number += 1
            pv = make_ndarray(np.zeros((8, 8), np.uint8), frame_id=number, timestamp_s=time.time())
            server.update(channel, pv)
        time.sleep(PERIOD_S)
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
