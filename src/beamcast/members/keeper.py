"""The keeper of one rank: starts it as a child, restarts it when it dies, dies with whoever started the keeper.

Parsl runs `keep` in a worker, `mpiexec` or `srun` run this module as a program. MPI is used for placement alone and
left again before the rank starts: waiting in MPI would burn a core, and a rank killed by a signal must not take the
whole MPI job with it. The rank itself never sees MPI.
"""

import argparse
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from beamcast.members.child import end_member, start_member
from beamcast.members.hardware import NodeShare, bind, rank_environment
from beamcast.members.join import read_join
from beamcast.members.member import EXIT_DONE, EXIT_UNWELCOME, PULSE_VARIABLE
from beamcast.members.parent import die_with_parent

# A rank shows life at least as often as an exchange with a silent controller lasts.
PULSE_GRACE_S = 2.5


@dataclass(frozen=True, slots=True)
class Errand:
    """Which rank to keep alive, and how often. Small and picklable: it travels through Parsl."""

    run_dir: str
    pool: str
    rank: int
    size: int
    max_restarts: int
    first_generation: int = 0
    placed_by: str = "arguments"
    node_index: int = 0
    nodes: int = 1
    local_rank: int = 0
    local_size: int = 1
    silence_s: float = 5.0


def keep(errand: Errand) -> int:
    """Run the rank until it has done its work; returns its last exit status.

    A rank that ends by a signal or an error is started again as the next generation, at most `max_restarts` times.
    The controller may refuse a new generation, which ends it for good.
    """
    node = read_join(Path(errand.run_dir)).hardware.get(errand.pool, NodeShare())
    share = node.of(errand.local_rank, errand.local_size)
    bind(share)
    environment = rank_environment(node, share)
    status = EXIT_DONE
    for generation in range(errand.first_generation, errand.first_generation + errand.max_restarts + 1):
        status = _run_once(errand, generation, environment)
        if status in (EXIT_DONE, EXIT_UNWELCOME):
            break
    return status


def _run_once(errand: Errand, generation: int, environment: Mapping[str, str]) -> int:
    arguments = [f"--pool={errand.pool}", f"--rank={errand.rank}", f"--size={errand.size}"]
    arguments += [f"--generation={generation}", f"--placed-by={errand.placed_by}"]
    arguments += [f"--node-index={errand.node_index}", f"--nodes={errand.nodes}"]
    arguments += [f"--local-rank={errand.local_rank}", f"--local-size={errand.local_size}"]
    name = f"{errand.pool}-{errand.rank}"
    listen, speak = os.pipe()
    try:
        process = start_member(
            "rank",
            run_dir=Path(errand.run_dir),
            name=name,
            arguments=arguments,
            environment={**environment, PULSE_VARIABLE: str(speak)},
            pass_fds=[speak],
        )
    finally:
        os.close(speak)
    try:
        return _wait(process, listen, errand.silence_s)
    finally:
        os.close(listen)
        end_member(process)


def _wait(process: "subprocess.Popen[Any]", listen: int, silence_s: float) -> int:
    """Wait for the rank's end. One that has shown no life for too long, stopped or hanging as a whole, is killed: the
    controller takes it for dead, and its place is needed. A rank that has not registered yet may take its time."""
    alive = False
    while True:
        ready, _, _ = select.select([listen], [], [], silence_s + PULSE_GRACE_S)
        if not ready:
            if alive:
                process.kill()
                return process.wait()
            if process.poll() is not None:
                return process.wait()
            continue
        if not os.read(listen, 4096):
            return process.wait()  # the pipe is closed: the rank has ended, or is ending
        alive = True


def place_by_mpi(run_dir: str, pool: str, max_restarts: int, expected_size: int) -> Errand:
    """Ask MPI where this process is; leaves MPI again. SystemExit when the world is not as large as asked for."""
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    local = world.Split_type(MPI.COMM_TYPE_SHARED, key=world.rank)
    if world.size != expected_size:
        # A launcher that does not fit the MPI library silently gives N worlds of one rank each.
        raise SystemExit(
            f"MPI says {world.size} ranks, the workflow asks for {expected_size}: the launcher and the MPI library "
            "do not fit together (with Slurm, set [start] options to the --mpi= kind that the library speaks)"
        )
    # A node is named by the lowest world rank on it: host names may repeat in containers.
    leader = local.bcast(world.rank, root=0)
    leaders = sorted(set(world.allgather(leader)))
    errand = Errand(
        run_dir=run_dir,
        pool=pool,
        rank=world.rank,
        size=world.size,
        max_restarts=max_restarts,
        placed_by="mpi",
        node_index=leaders.index(leader),
        nodes=len(leaders),
        local_rank=local.rank,
        local_size=local.size,
    )
    local.Free()
    MPI.Finalize()
    return errand


def main() -> None:
    """Entry point under an MPI launcher."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--max-restarts", type=int, required=True)
    arguments = parser.parse_args()
    die_with_parent(os.getppid())
    errand = place_by_mpi(arguments.run_dir, arguments.pool, arguments.max_restarts, arguments.size)

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    sys.exit(keep(errand))


if __name__ == "__main__":
    main()
