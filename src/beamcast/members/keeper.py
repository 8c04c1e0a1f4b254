"""The keeper of one rank: starts it as a child, restarts it when it dies, dies with whoever started the keeper.

Parsl runs `keep` in a worker, `mpiexec` or `srun` run this module as a program. MPI is used for placement alone and
left again before the rank starts: waiting in MPI would burn a core, and a rank killed by a signal must not take the
whole MPI job with it. The rank itself never sees MPI.
"""

import argparse
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from beamcast.members.child import end_member, start_member
from beamcast.members.member import EXIT_DONE, EXIT_UNWELCOME
from beamcast.members.parent import die_with_parent


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


def keep(errand: Errand) -> int:
    """Run the rank until it has done its work; returns its last exit status.

    A rank that ends by a signal or an error is started again as the next generation, at most `max_restarts` times.
    The controller may refuse a new generation, which ends it for good.
    """
    status = EXIT_DONE
    for generation in range(errand.first_generation, errand.first_generation + errand.max_restarts + 1):
        status = _run_once(errand, generation)
        if status in (EXIT_DONE, EXIT_UNWELCOME):
            break
    return status


def _run_once(errand: Errand, generation: int) -> int:
    arguments = [f"--pool={errand.pool}", f"--rank={errand.rank}", f"--size={errand.size}"]
    arguments += [f"--generation={generation}", f"--placed-by={errand.placed_by}"]
    arguments += [f"--node-index={errand.node_index}", f"--nodes={errand.nodes}"]
    arguments += [f"--local-rank={errand.local_rank}", f"--local-size={errand.local_size}"]
    name = f"{errand.pool}-{errand.rank}"
    process = start_member("rank", run_dir=Path(errand.run_dir), name=name, arguments=arguments)
    try:
        return process.wait()
    finally:
        end_member(process)


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
