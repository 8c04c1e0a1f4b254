"""Which rank sits where in an allocation. Pure: `plan` prints it, the start mode `workers` carries it out."""

from collections.abc import Sequence
from itertools import accumulate

from beamcast.config.site import LocalProvider
from beamcast.launch.plan import RunPlan
from beamcast.members.host.seat import Seat


def first_nodes(plan: RunPlan) -> dict[str, int]:
    """The node, counted from 0, at which each pool begins.

    Pools get nodes of their own, one after the other, where the allocation has enough of them; otherwise all begin
    at the first node and share.
    """
    counts = {pool.name: plan.nodes_of(pool) for pool in plan.pools}
    if sum(counts.values()) > plan.site.allocation.nodes:
        return dict.fromkeys(counts, 0)
    return dict(zip(counts, accumulate(counts.values(), initial=0), strict=False))


def allocation_nodes(plan: RunPlan) -> int:
    """Nodes on which workers start: without a scheduler all of them are this machine."""
    return 1 if isinstance(plan.site.provider, LocalProvider) else plan.site.allocation.nodes


def seating(plan: RunPlan) -> tuple[Seat, ...]:
    """The seats of all ranks, pool after pool."""
    local = allocation_nodes(plan) == 1
    firsts = first_nodes(plan)
    workers: dict[int, int] = {}
    seats: list[Seat] = []
    for pool in plan.pools:
        for place in plan.places(pool):
            node = 0 if local else firsts[pool.name] + place.node_index
            seat = Seat(
                node=node,
                worker=workers.get(node, 0),
                pool=pool.name,
                rank=place.rank,
                size=place.size,
                node_index=place.node_index,
                nodes=place.nodes,
                local_rank=place.local_rank,
                local_size=place.local_size,
                max_restarts=pool.restart.max_restarts,
                understudy=pool.restart.understudy,
            )
            workers[node] = seat.worker + 1
            seats.append(seat)
    return tuple(seats)


def more_seats(plan: RunPlan, seats: tuple[Seat, ...], ranks: Sequence[tuple[str, int]]) -> tuple[Seat, ...]:
    """The seats, with other ones for `ranks` (pool and number), which come together in an allocation of their own, over
    all its nodes in turn."""
    nodes = allocation_nodes(plan)
    kept = [seat for seat in seats if (seat.pool, seat.rank) not in ranks]
    added = [
        Seat(
            node=index % nodes,
            worker=index // nodes,
            pool=name,
            rank=rank,
            size=plan.pool(name).ranks,
            node_index=index % nodes,
            nodes=nodes,
            local_rank=index // nodes,
            local_size=-(-len(ranks) // nodes),
            max_restarts=plan.pool(name).restart.max_restarts,
            understudy=plan.pool(name).restart.understudy,
        )
        for index, (name, rank) in enumerate(ranks)
    ]
    return (*kept, *added)


def seats_of_allocation(plan: RunPlan) -> int:
    """How many ranks an allocation can take: as many as the plan puts on its fullest node, on each."""
    return allocation_nodes(plan) * workers_per_node(seating(plan))


def workers_per_node(seats: tuple[Seat, ...]) -> int:
    """As many workers as the fullest node has seats; every node gets that many."""
    return max(seat.worker for seat in seats) + 1
