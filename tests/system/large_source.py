"""A detector with frames of 1 GiB, for `test_source_changes.py`; run as a program of its own.

Arguments: channel, folder, and how many frames. Prints its port. Begins when `go` appears in the folder, sends a frame
when `seen<N>` says that the one before was processed. The frames share one image, so that this process holds it once.
"""

import os
import sys
import time
from pathlib import Path

SHAPE = (1 << 15, 1 << 15)
PATIENCE_S = 60.0


def main(channel: str, folder: Path, frames: int) -> None:
    """Serve until killed."""
    from beamcast.pva.environment import apply_environment, bound_ports, free_port, server_environment

    port = free_port(46000, 46999, "127.0.0.1", prefer=os.getpid() % 1000)
    apply_environment(server_environment(address="127.0.0.1", port=port))
    import numpy as np
    import pvaccess

    from beamcast.pva.ndarray import make_ndarray

    image = np.zeros(SHAPE, dtype=np.uint8)
    image[-1, -1] = 7
    pv = make_ndarray(image, frame_id=0, timestamp_s=time.time())
    del image
    server = pvaccess.PvaServer()
    server.addRecord(channel, pv.copy())
    print(bound_ports()[0], flush=True)
    while not (folder / "go").exists():
        time.sleep(0.05)
    for number in range(1, frames + 1):
        pv["uniqueId"] = number
        server.update(channel, pv)
        deadline = time.monotonic() + PATIENCE_S
        while not (folder / f"seen{number}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
