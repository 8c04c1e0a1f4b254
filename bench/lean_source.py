"""A source that is not the limit: one prepared object, of which nothing but the id changes, in bursts.

About 20 to 35 µs of processor time a frame of 128x128, most of it pvAccess's own. Serves until stdin ends; for the line
"go" it offers frames for so many seconds, then prints how many it sent. An id that marks the end follows.
"""

import argparse
import os
import sys
import time

from recorder import END_ID

from beamcast.pva.environment import apply_environment, check_bound, server_environment

CHANNEL = "bench:image"
# Frames between two looks at the clock, at most.
BURST_FRAMES = 200
TAIL_S = 0.5


def main() -> None:
    """Serve until stdin ends; prints ``ready``, then ``sent N SECONDS`` for each line."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--value-id", type=int, default=0, help="the id of the value that is there before frames"
    )
    for name in ("--port", "--size"):
        parser.add_argument(name, type=int, required=True)
    for name in ("--rate-hz", "--seconds"):
        parser.add_argument(name, type=float, required=True)
    options = parser.parse_args()
    apply_environment(server_environment(address="127.0.0.1", port=options.port))
    import numpy as np
    import pvaccess

    from beamcast.pva.ndarray import make_ndarray

    server = pvaccess.PvaServer()
    check_bound([options.port])
    image = np.random.default_rng(1).integers(0, 255, (options.size, options.size), dtype=np.uint8)
    pv = make_ndarray(image, frame_id=options.value_id, timestamp_s=time.time())
    server.addRecord(CHANNEL, pv.copy())

    def publish(frame_id: int) -> None:
        pv.setInt("uniqueId", frame_id)
        server.updateUnchecked(CHANNEL, pv)

    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() != "go":
            continue
        sent, began = 0, time.perf_counter()
        while (elapsed_s := time.perf_counter() - began) < options.seconds:
            due = min(int(elapsed_s * options.rate_hz) - sent, BURST_FRAMES)
            for _ in range(due):
                sent += 1
                publish(sent)
            if due <= 0:
                time.sleep(0.0005)
        print(f"sent {sent} {elapsed_s:.3f}", flush=True)
        time.sleep(TAIL_S)
        publish(END_ID)
    os._exit(0)  # pvaccess's C++ threads do not survive the interpreter's teardown


if __name__ == "__main__":
    main()
