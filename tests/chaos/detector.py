"""A detector outside the run: serves one channel, and takes a number of frames for each line on its standard input.

A line is "N" (N more frames) or "again N" (N frames, with ids from 1 once more). Each is answered with "sent N".
"""

import argparse
import os
import sys

from beamcast.pva.environment import apply_environment, check_bound, server_environment


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channel", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--rate-hz", type=float, required=True)
    parser.add_argument("folder", help="of the trial; by it the process is told from those of other trials")
    arguments = parser.parse_args()
    apply_environment(server_environment(address="127.0.0.1", port=arguments.port))
    import pvaccess

    from beamcast.sim.payload import PayloadMaker
    from beamcast.sim.simulator import Simulator
    from beamcast.sim.source import RandomSource

    server = pvaccess.PvaServer()
    check_bound([arguments.port])
    source = RandomSource(PayloadMaker((arguments.size, arguments.size), "uint8", seed=0))
    simulator = Simulator(
        arguments.channel, source, server=server, rate_hz=arguments.rate_hz, frames=None, first_id=1
    )
    simulator.serve_initial()
    print("ready", flush=True)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "again":
            simulator.restart_epoch(1)
        upto = simulator.sent + int(words[-1])
        simulator.run(lambda upto=upto: simulator.sent >= upto)  # type: ignore[misc]
        print(f"sent {words[-1]}", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
