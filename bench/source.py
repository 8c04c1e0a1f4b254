"""The source process of the benchmark: for each line ``go`` on stdin, one burst of frames, then end markers.

Frames are published without a copy each (unstamped), so the source costs as little of the machine as it can.
"""

import argparse
import select
import sys
import time

from recorder import END_ID

from beamcast.pva.environment import apply_environment, check_bound, server_environment

CHANNEL = "bench:image"


def main() -> None:
    """Serve until stdin closes; prints ``ready`` once, and ``sent N`` after each burst."""
    parser = argparse.ArgumentParser()
    for name in ("--port", "--size", "--frames"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--rate-hz", type=float, required=True)
    options = parser.parse_args()
    apply_environment(server_environment(address="127.0.0.1", port=options.port))
    import pvaccess

    from beamcast.sim.payload import PayloadMaker
    from beamcast.sim.simulator import Simulator
    from beamcast.sim.source import RandomSource

    server = pvaccess.PvaServer()
    server.start()
    check_bound([options.port])
    maker = PayloadMaker((options.size, options.size), "uint8", seed=1)

    def play(channel: str, rate_hz: float, frames: int, first_id: int) -> Simulator:
        source = RandomSource(maker, stamp=False)
        return Simulator(channel, source, server=server, rate_hz=rate_hz, frames=frames, first_id=first_id)

    simulator = play(CHANNEL, options.rate_hz, options.frames, 0)
    simulator.serve_initial()
    print("ready", flush=True)
    while True:
        line = ""
        if select.select([sys.stdin], [], [], 0.05)[0]:
            line = sys.stdin.readline()
            if not line:
                return
        if line.strip() == "go":
            simulator.restart_epoch(0)
            print(f"sent {simulator.run(lambda: False).sent}", flush=True)
            time.sleep(0.05)
        else:
            simulator.restart_epoch(END_ID)
            stop = iter((False, True))
            simulator.run(lambda stop=stop: next(stop))  # type: ignore[misc]


if __name__ == "__main__":
    main()
