"""Which GPU and CPUs the ranks of a run are to have: the site's nodes, as far as each pool wants them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from beamcast.config.site import LocalProvider, Node, Site
from beamcast.config.workflow import Pool
from beamcast.core.hardware import Share, parse_cpus
from beamcast.core.place import Place
from beamcast.members.hardware import NodeShare
from beamcast.pva.messages import Whereabouts


def node_share(node: Node, pool: Pool) -> NodeShare:
    """How the pool's ranks share out a node. Ranks that want no GPU are not bound where CPUs go with GPUs."""
    wants_gpu = pool.role == "consumer" if pool.gpu is None else pool.gpu
    gpus = node.gpus if wants_gpu else ()
    cpu_sets = node.cpu_sets if bool(gpus) == bool(node.gpus) else ()
    return NodeShare(gpus=gpus, gpu_variable=node.gpu_variable, cpu_sets=cpu_sets, scratch=node.scratch)


def shares(node: Node, pools: tuple[Pool, ...]) -> dict[str, NodeShare]:
    """How each pool shares out a node."""
    return {pool.name: node_share(node, pool) for pool in pools}


def with_gpu(node: Node, pool: Pool, place: Place) -> Place:
    """The place with the GPU that its rank is to get."""
    return replace(place, gpu=expected_share(node, pool, place).gpu)


def expected_share(node: Node, pool: Pool, place: Place) -> Share:
    """What the rank at a place is to get."""
    return node_share(node, pool).of(place.local_rank, place.local_size)


@dataclass(frozen=True, slots=True)
class PlannedSeat:
    """Where a rank is to sit and what it is to have there."""

    place: Place
    share: Share


def planned_seats(node: Node, pool: Pool, places: Sequence[Place]) -> tuple[PlannedSeat, ...]:
    """The seats of a pool's ranks, in order."""
    return tuple(PlannedSeat(place, expected_share(node, pool, place)) for place in places)


def misplaced(site: Site, planned: PlannedSeat, where: Whereabouts) -> str:
    """How a rank's word about its place differs from the plan; empty where it does not.

    Without a scheduler one machine stands for all nodes, so there nodes are not compared.
    """
    place, share = planned.place, planned.share
    pairs = [("GPU", share.gpu_name, where.gpu_name)]
    if not isinstance(site.provider, LocalProvider):
        pairs += [("node", str(place.node_index), str(where.node_index))]
        pairs += [("local rank", str(place.local_rank), str(where.local_rank))]
    if share.cpus and where.cpus and parse_cpus(share.cpus) != parse_cpus(where.cpus):
        pairs.append(("CPUs", share.cpus, where.cpus))
    return ", ".join(f"{name} {is_ or 'none'}, not {was or 'none'}" for name, was, is_ in pairs if was != is_)
