"""Taking a seat: a task that Parsl started somewhere finds out which rank it is to keep.

The choice: tasks are all alike ("hands"), and *where* one lands decides which rank it starts. Parsl hands tasks to
whichever node is free first, so a rank tied to a task would sit on any node. There are as many hands as workers, a
hand keeps its worker for the whole run, so every (node, worker) pair gets exactly one; the seats of each node were
written into the run directory beforehand. A hand without a seat only fills its worker.
"""

import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec

from beamcast.core.errors import WorldError
from beamcast.members.host.keeper import Errand, keep
from beamcast.members.parent import die_with_parent

SEATS = "seats"

# Set for the manager of a node, which the batch system starts once on each: its rank is the node's number. SLURM_NODEID
# first, since PMI variables are set under srun too.
_NODE_NUMBERS = ("SLURM_NODEID", "PALS_RANKID", "PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """One rank's seat. `node` counts in the allocation, `node_index` in the pool; `worker` on its node."""

    node: int
    worker: int
    pool: str
    rank: int
    size: int
    node_index: int
    nodes: int
    local_rank: int
    local_size: int
    max_restarts: int
    first_generation: int = 0
    understudy: bool = True


class Sat(msgspec.Struct, frozen=True, kw_only=True):
    """What a hand did: the rank that it kept and its last exit status."""

    pool: str
    rank: int
    status: int


def write_seats(run_dir: Path, seats: tuple[Seat, ...]) -> None:
    """Write one small file for each node: with thousands of ranks nobody has to read all seats. The run's later
    allocations have a folder each, in place of `run_dir`; so it is for all functions here."""
    folder = run_dir / SEATS
    folder.mkdir(exist_ok=True, parents=True)
    for node in {seat.node for seat in seats}:
        here = [seat for seat in seats if seat.node == node]
        (folder / f"node-{node}.json").write_bytes(msgspec.json.encode(here))


def read_seats(run_dir: Path, node: int) -> list[Seat]:
    """The seats of a node; none where the node has none."""
    try:
        data = (run_dir / SEATS / f"node-{node}.json").read_bytes()
    except FileNotFoundError:
        return []
    return msgspec.json.decode(data, type=list[Seat])


def taken_by(run_dir: Path, hand: int) -> tuple[str, int] | None:
    """The pool and rank that a hand took; None while it has taken none."""
    try:
        pool, rank = (run_dir / SEATS / f"hand-{hand}").read_text(encoding="utf-8").split()
    except (FileNotFoundError, ValueError):
        return None
    return pool, int(rank)


def hands_seen(run_dir: Path) -> list[int]:
    """The hands that have taken a seat."""
    return [int(path.name.removeprefix("hand-")) for path in (run_dir / SEATS).glob("hand-*")]


def node_number(environment: Mapping[str, str], *, nodes: int) -> int:
    """Which node of the allocation this is, counted from 0. WorldError where nothing tells."""
    if nodes == 1:
        return 0
    for name in _NODE_NUMBERS:
        value = environment.get(name, "")
        if value.isdecimal() and int(value) < nodes:
            return int(value)
    raise WorldError(
        f"can't tell which of {nodes} nodes {socket.gethostname()} is: none of {', '.join(_NODE_NUMBERS)} is set",
        hint="a site whose launcher sets another variable can export PMI_RANK from it in worker_init",
    )


def sit(run_dir: str, seat_dir: str, hand: int, nodes: int) -> Sat | None:
    """Find the seat and keep its rank until the rank has done its work. Runs in a Parsl worker, on its main thread.

    Without a seat it waits until it is ended with its worker. WorldError as `node_number`.
    """
    # Parsl ends only the worker's own parent: a worker that is busy with us would go on without it.
    die_with_parent(os.getppid())
    folder = Path(seat_dir)
    node, worker = node_number(os.environ, nodes=nodes), int(os.environ["PARSL_WORKER_RANK"])
    seat = next((seat for seat in read_seats(folder, node) if seat.worker == worker), None)
    if seat is None:
        while True:
            signal.pause()
    (folder / SEATS / f"hand-{hand}").write_text(f"{seat.pool} {seat.rank}", encoding="utf-8")
    return Sat(pool=seat.pool, rank=seat.rank, status=keep(errand_of(run_dir, seat)))


def errand_of(run_dir: str, seat: Seat) -> Errand:
    """What a keeper has to know of a seat."""
    return Errand(
        run_dir=run_dir,
        pool=seat.pool,
        rank=seat.rank,
        size=seat.size,
        max_restarts=seat.max_restarts,
        first_generation=seat.first_generation,
        node_index=seat.node_index,
        nodes=seat.nodes,
        local_rank=seat.local_rank,
        local_size=seat.local_size,
        understudy=seat.understudy,
    )
