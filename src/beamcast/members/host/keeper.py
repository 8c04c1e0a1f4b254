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
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from beamcast.members.child import start_member
from beamcast.members.hardware import NodeShare, bind, rank_environment
from beamcast.members.host.exits import EXIT_DONE, EXIT_UNWELCOME, FAREWELL
from beamcast.members.host.understudy import PREPARE_AFTER_S, Actor, enter
from beamcast.members.join import read_join
from beamcast.members.parent import die_with_parent
from beamcast.pools.memory import memory_environment

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
    understudy: bool = True


def keep(errand: Errand) -> int:
    """Run the rank until it has done its work; returns its last exit status.

    A rank that ends by a signal or an error is started again as the next generation, at most `max_restarts` times.
    The controller may refuse a new generation, which ends it for good.
    """
    node = read_join(Path(errand.run_dir)).hardware.get(errand.pool, NodeShare())
    share = node.of(errand.local_rank, errand.local_size)
    bind(share)
    return Keeper(errand, rank_environment(node, share)).keep()


class Keeper:
    """Keeps one rank: the process that plays it, and the one that is to play it next."""

    def __init__(self, errand: Errand, environment: Mapping[str, str]) -> None:
        """`environment`: what the rank gets besides the keeper's own, such as its GPU."""
        self._errand = errand
        self._environment = environment
        self._understudy: Actor | None = None
        # Whether the present process has ended since its work is done; its processor may end it with status 0 too.
        self._said_farewell = False

    def keep(self) -> int:
        """As `keep`."""
        errand, status = self._errand, EXIT_DONE
        try:
            before: int | None = None
            for generation in range(errand.first_generation, self._last + 1):
                before = status = self._play(generation, before)
                if status == EXIT_UNWELCOME or (status == EXIT_DONE and self._said_farewell):
                    break
        finally:
            if self._understudy is not None:
                self._understudy.end()
        return status

    @property
    def _last(self) -> int:
        return self._errand.first_generation + self._errand.max_restarts

    def _play(self, generation: int, before: int | None) -> int:
        self._said_farewell = False
        actor = self._next(generation, before)
        try:
            return self._watch(actor, may_restart=generation < self._last)
        finally:
            actor.end()

    def _next(self, generation: int, before: int | None) -> Actor:
        """The understudy, or where there is none, or it has died, a new process. `before`: how the last one ended."""
        waiting, self._understudy = self._understudy, None
        if waiting is not None:
            try:
                waiting.begin(generation, before)
                return waiting
            except OSError:
                waiting.end()
        return enter(self._start, generation=generation, before=before)

    def _watch(self, actor: Actor, *, may_restart: bool) -> int:
        """Wait for the rank's end. One that has shown no life for too long, stopped or hanging as a whole, is killed:
        the controller takes it for dead, and its place is needed. A rank that has not registered yet may take its
        time."""
        process, alive_since = actor.process, 0.0
        while True:
            ready, _, _ = select.select([actor.pulse], [], [], self._errand.silence_s + PULSE_GRACE_S)
            if not ready:
                if alive_since:
                    process.kill()
                    return process.wait()
                if process.poll() is not None:
                    return process.wait()
                continue
            signs = os.read(actor.pulse, 4096)
            if not signs:
                return process.wait()  # the pipe is closed: the rank has ended, or is ending
            self._said_farewell = self._said_farewell or FAREWELL in signs
            alive_since = alive_since or time.monotonic()
            if may_restart and time.monotonic() - alive_since > PREPARE_AFTER_S:
                self._prepare()

    def _prepare(self) -> None:
        if self._understudy is None and self._errand.understudy:
            self._understudy = enter(self._start, generation=None)

    def _start(
        self, more: Sequence[str], environment: dict[str, str], pass_fds: Sequence[int]
    ) -> "subprocess.Popen[Any]":
        errand = self._errand
        arguments = [f"--pool={errand.pool}", f"--rank={errand.rank}", f"--size={errand.size}"]
        arguments += [*more, f"--placed-by={errand.placed_by}"]
        arguments += [f"--node-index={errand.node_index}", f"--nodes={errand.nodes}"]
        arguments += [f"--local-rank={errand.local_rank}", f"--local-size={errand.local_size}"]
        return start_member(
            "rank",
            run_dir=Path(errand.run_dir),
            name=f"{errand.pool}-{errand.rank}",
            arguments=arguments,
            environment={**memory_environment(os.environ), **self._environment, **environment},
            pass_fds=pass_fds,
        )


def place_by_mpi(
    run_dir: str,
    pool: str,
    max_restarts: int,
    expected_size: int,
    *,
    first_generation: int,
    understudy: bool,
) -> Errand:
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
        first_generation=first_generation,
        placed_by="mpi",
        node_index=leaders.index(leader),
        nodes=len(leaders),
        local_rank=local.rank,
        local_size=local.size,
        understudy=understudy,
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
    parser.add_argument("--no-understudy", action="store_true")
    parser.add_argument("--first-generation", type=int, default=0)
    arguments = parser.parse_args()
    die_with_parent(os.getppid())
    errand = place_by_mpi(
        arguments.run_dir,
        arguments.pool,
        arguments.max_restarts,
        arguments.size,
        understudy=not arguments.no_understudy,
        first_generation=arguments.first_generation,
    )

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    sys.exit(keep(errand))


if __name__ == "__main__":
    main()
