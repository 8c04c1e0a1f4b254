"""From the place of a rank to its slot in the data distributor.

The choice: a slot follows from the place alone, so every rank and the controller compute the same one without
talking. The distributor hands turns to *sets* in the order in which they connect; all clients of a set see
the same frames. A pool with one set for each rank therefore shares the frames out, a pool with one set for
all ranks broadcasts them.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Policy = Literal["each", "per-node", "sets", "all", "per-gpu"]

# Turns of one node under per-gpu when the number of GPU sets is not given: more GPUs than any node has, so
# that turns of two nodes never meet.
GPUS_PER_NODE = 64

# What the distributor's request and a PV request leave alone: it splits at ';' and ':', the request at ','
# and ']'.
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rank sits. Ranks, nodes and local ranks count from 0.

    Raises:
        ValueError: an index outside its size.
    """

    rank: int
    size: int
    node: str
    node_index: int
    nodes: int
    local_rank: int
    local_size: int
    gpu: int | None = None

    def __post_init__(self) -> None:
        pairs = (
            ("rank", self.rank, self.size),
            ("node_index", self.node_index, self.nodes),
            ("local_rank", self.local_rank, self.local_size),
        )
        for name, index, size in pairs:
            if not 0 <= index < size:
                raise ValueError(f"{name} {index} is outside 0..{size - 1}")
        if self.gpu is not None and not 0 <= self.gpu < GPUS_PER_NODE:
            raise ValueError(f"gpu {self.gpu} is outside 0..{GPUS_PER_NODE - 1}")


@dataclass(frozen=True, slots=True)
class Slot:
    """A rank's part in the distributor: its group, its set, the set's turn, and the frames in one turn.

    `turn` says in which order sets connect. It is the position itself, except under per-gpu without a number
    of sets.
    """

    group: str
    set: str
    turn: int
    updates: int
    trigger: str

    def distributor_request(self) -> str:
        """Return the distributor's part of a PV request, to stand in ``field(_[...])``.

        PvaPy's consumer builds the same text. No ``mode``: with a set named, the plugin's default is that all
        clients of the set get each update, which holds for sets of one rank too.
        """
        return (
            f"pydistributor=group:{self.group};set:{self.set};trigger:{self.trigger};updates:{self.updates}"
        )


def assign(
    policy: Policy,
    place: Place,
    *,
    channel: str,
    pool: str,
    trigger: str,
    updates: int = 1,
    sets: int | None = None,
) -> Slot:
    """Return the slot of a rank.

    Args:
        policy: how frames are shared out among the ranks.
        place: where the rank sits.
        channel: the channel it monitors; group ids are unique for a channel and pool, since the plugin keeps
            one rotation for a group id in a whole process.
        pool: name of its pool.
        trigger: field whose change is an update: the frame id field, without ``:;,[]`` or blanks.
        updates: consecutive frames in one turn.
        sets: number of sets, required by policy ``sets``; under ``per-gpu`` the number of GPU sets in the
            whole pool, where it is known.

    Raises:
        ValueError: an unknown policy, `sets` missing or not within 1..size, no GPU known under per-gpu,
            `updates` below 1, or a trigger that the request can't carry.
    """
    if updates < 1:
        raise ValueError(f"updates is {updates}: a turn has at least one frame")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", trigger):
        raise ValueError(f"trigger {trigger!r} is not a field name")
    turn = _turn(policy, place, sets)
    return Slot(group=group_id(channel, pool), set=f"set{turn}", turn=turn, updates=updates, trigger=trigger)


def group_id(channel: str, pool: str) -> str:
    """Return the distributor group of a channel and pool: readable, safe, unique by a digest."""
    digest = hashlib.blake2s(f"{channel}\0{pool}".encode(), digest_size=4).hexdigest()
    return f"{_UNSAFE.sub('_', channel)}-{_UNSAFE.sub('_', pool)}-{digest}"


def _turn(policy: Policy, place: Place, sets: int | None) -> int:
    match policy:
        case "each":
            return place.rank
        case "all":
            return 0
        case "per-node":
            return place.node_index
        case "sets":
            return _turn_of_sets(place, sets)
        case "per-gpu":
            return _turn_of_gpu(place, sets)
    raise ValueError(f"unknown policy {policy!r}")


def _turn_of_sets(place: Place, sets: int | None) -> int:
    """Sets are runs of neighbouring ranks, which tend to share a node; sizes differ by at most one."""
    if sets is None or not 1 <= sets <= place.size:
        raise ValueError(f"policy 'sets' needs a number of sets within 1..{place.size}, not {sets}")
    return place.rank * sets // place.size


def _turn_of_gpu(place: Place, sets: int | None) -> int:
    if place.gpu is None:
        raise ValueError(f"policy 'per-gpu': no GPU is known for rank {place.rank} on {place.node}")
    if sets is None:
        return place.node_index * GPUS_PER_NODE + place.gpu
    per_node, rest = divmod(sets, place.nodes)
    if rest or place.gpu >= per_node:
        raise ValueError(
            f"policy 'per-gpu': {sets} sets on {place.nodes} nodes have no place for GPU {place.gpu}"
        )
    return place.node_index * per_node + place.gpu


def set_members(
    policy: Policy, places: Sequence[Place], sets: int | None = None
) -> tuple[tuple[int, ...], ...]:
    """Return the ranks of each set, sets in the order of their turns.

    Raises:
        ValueError: as `assign`.
    """
    members: dict[int, list[int]] = {}
    for place in places:
        members.setdefault(_turn(policy, place, sets), []).append(place.rank)
    return tuple(tuple(sorted(members[turn])) for turn in sorted(members))


def spread(ranks: int, nodes: Sequence[str], ranks_per_node: int | None = None) -> tuple[Place, ...]:
    """Place ranks on nodes in blocks: neighbouring ranks share a node.

    With `ranks_per_node` nodes are filled in order, without it the ranks are shared out evenly (within one).
    Nodes that get no rank are left out of the count.

    Raises:
        ValueError: no ranks, a node twice, or more ranks than fit.
    """
    if ranks < 1 or len(set(nodes)) != len(nodes):
        raise ValueError(f"{ranks} ranks on nodes {list(nodes)}: at least one rank, each node once")
    counts = [count for count in _counts(ranks, len(nodes), ranks_per_node) if count]
    places: list[Place] = []
    for node_index, local_size in enumerate(counts):
        for local_rank in range(local_size):
            place = Place(
                rank=len(places),
                size=ranks,
                node=nodes[node_index],
                node_index=node_index,
                nodes=len(counts),
                local_rank=local_rank,
                local_size=local_size,
            )
            places.append(place)
    return tuple(places)


def _counts(ranks: int, nodes: int, ranks_per_node: int | None) -> list[int]:
    """Ranks on each node."""
    if nodes == 0 or (ranks_per_node is not None and ranks > nodes * ranks_per_node):
        raise ValueError(f"{ranks} ranks do not fit on {nodes} nodes with {ranks_per_node} ranks each")
    if ranks_per_node is not None:
        return [max(0, min(ranks_per_node, ranks - index * ranks_per_node)) for index in range(nodes)]
    return [ranks // nodes + (index < ranks % nodes) for index in range(nodes)]
