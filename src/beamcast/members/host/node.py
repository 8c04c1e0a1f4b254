"""All ranks of one node, kept by one process: what a script starts on each node where Parsl does not start anything.

`srun` or `mpiexec` runs it once on each node of an allocation; where there is one node, the script itself does. Which
node this is follows from the launcher's variables, and which ranks sit here from the run directory.
"""

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import psutil

from beamcast.core.errors import BeamcastError
from beamcast.members.child import TERMINATE_GRACE_S
from beamcast.members.host.exits import EXIT_DONE, EXIT_FAILED
from beamcast.members.host.keeper import keep
from beamcast.members.host.seat import Seat, errand_of, node_number, read_seats
from beamcast.members.parent import die_with_parent

logger = logging.getLogger(__name__)


class NodeKeeper:
    """Keeps the ranks of some seats, a thread for each, and knows how they ended."""

    def __init__(self, run_dir: Path, seats: list[Seat]) -> None:
        self._run_dir = run_dir
        self._seats = seats
        self._statuses: dict[tuple[str, int], int] = {}

    def run(self) -> int:
        """Keep all of them until the last has ended; the worst of their exit statuses."""
        threads = [threading.Thread(target=self._keep, args=(seat,), daemon=True) for seat in self._seats]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return max(self._statuses.values(), default=EXIT_DONE)

    def _keep(self, seat: Seat) -> None:
        # The kernel ends a rank when the thread that started it ends: so one thread stays with each.
        try:
            status = keep(errand_of(str(self._run_dir), seat))
        except (BeamcastError, OSError, ValueError):
            logger.exception("rank %s/%d can't be kept", seat.pool, seat.rank)
            status = EXIT_FAILED
        self._statuses[seat.pool, seat.rank] = status


def end_children() -> None:
    """End everything that this process started, and wait for it: SIGTERM, then SIGKILL."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        child.terminate()
    _, stubborn = psutil.wait_procs(children, timeout=TERMINATE_GRACE_S)
    for child in stubborn:
        child.kill()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--nodes", type=int, default=1)
    arguments = parser.parse_args()
    die_with_parent(os.getppid())
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")

    def stop(number: int, frame: FrameType | None) -> None:
        end_children()
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    try:
        number = node_number(os.environ, nodes=arguments.nodes)
        seats = read_seats(arguments.run_dir, number)
        logger.info("node %d of %d keeps %d ranks", number, arguments.nodes, len(seats))
        status = NodeKeeper(arguments.run_dir, seats).run()
    except BeamcastError as error:
        print(f"error: {error}", file=sys.stderr)
        status = EXIT_FAILED
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
