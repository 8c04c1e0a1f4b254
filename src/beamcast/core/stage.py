"""What one pool has done with a set of frames.

The choice: every question is asked *among* a given set of frames and answered frame by frame, so an answer
for few frames costs little in a run of 10^8, and answers for disjoint sets add up.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pyroaring import BitMap64

from beamcast.core.keyset import union

SOURCE = "source"
"""`PoolShape.input` of a pool that reads the source (through the mirror)."""


@dataclass(frozen=True, slots=True)
class PoolShape:
    """A pool as the ledger sees it.

    `input` is "source" or the name of a pool. A frame goes to all ranks of one of `sets`; `updates`
    consecutive frames make one turn. A collector pool gets every output of its input.

    Where the outputs are parts of frames, `gather` says that one frame needs those of a whole set of the input pool,
    and `join` names the pools whose outputs it needs besides.

    Raises:
        ValueError: no set, an empty set, a rank twice, or `updates` below 1.
    """

    name: str
    role: Literal["consumer", "collector"]
    input: str
    sets: tuple[tuple[int, ...], ...]
    updates: int = 1
    gather: bool = False
    join: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ranks = [rank for members in self.sets for rank in members]
        if not self.sets or not all(self.sets) or len(set(ranks)) != len(ranks):
            raise ValueError(f"pool {self.name!r}: sets must hold every rank once and none may be empty")
        if self.updates < 1:
            raise ValueError(f"pool {self.name!r}: updates is {self.updates}, a turn has at least one frame")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The pools that it reads; empty for the source."""
        return () if self.input == SOURCE else (self.input, *self.join)

    @property
    def of_parts(self) -> bool:
        """Whether it puts frames together from parts."""
        return self.gather or bool(self.join)


@dataclass(slots=True)
class RankFrames:
    """Frames as one rank reported them; processed, dropped and failed are disjoint parts of received.

    Reports may come in any order and more than once: processed wins over failed (a frame may be sent again),
    failed over dropped.
    """

    received: BitMap64 = field(default_factory=BitMap64)
    processed: BitMap64 = field(default_factory=BitMap64)
    dropped: BitMap64 = field(default_factory=BitMap64)
    failed: BitMap64 = field(default_factory=BitMap64)
    duplicates_before: int = 0
    duplicates: int = 0

    def add_processed(self, keys: BitMap64) -> None:
        """Frames whose processor ended and whose output, if any, was published."""
        self.received |= keys
        self.processed |= keys
        self.failed -= keys
        self.dropped -= keys

    def add_failed(self, keys: BitMap64) -> None:
        """Frames whose processor raised."""
        self.received |= keys
        self.failed |= keys - self.processed
        self.dropped -= keys

    def add_dropped(self, keys: BitMap64) -> None:
        """Frames for which the processor chose no output."""
        self.received |= keys
        self.dropped |= keys - self.processed - self.failed

    def set_duplicates(self, count: int) -> None:
        """A cumulative count; one that goes down comes from a restarted rank and counts on top."""
        if count < self.duplicates:
            self.duplicates_before += self.duplicates
        self.duplicates = count


@dataclass(frozen=True, slots=True)
class StageView:
    """Frames in one pool. `out`, `dropped` and `failed` are disjoint; the rest is unfinished."""

    seen: BitMap64
    out: BitMap64
    dropped: BitMap64
    failed: BitMap64


class Stage:
    """One pool: its shape, its ranks' reports and the pools that read it."""

    __slots__ = ("arrived", "children", "parents", "ranks", "shape", "single_ranks", "whole_sets")

    def __init__(self, shape: PoolShape, parents: Sequence["Stage"]) -> None:
        self.shape = shape
        self.parents = tuple(parents)
        self.children: list[Stage] = []
        # Which parts have come, by the pool and rank that sent them; empty unless frames are put together here.
        self.arrived: defaultdict[tuple[str, int], BitMap64] = defaultdict(BitMap64)
        # Whether a frame leaves only when every rank of a set has an output: someone puts the parts together.
        self.whole_sets = False
        self.ranks = {rank: RankFrames() for members in shape.sets for rank in members}
        self.single_ranks = all(len(members) == 1 for members in shape.sets)
        for parent in self.parents:
            parent.children.append(self)
            parent.whole_sets |= shape.gather

    def extend(self, shape: PoolShape) -> None:
        """Take more ranks in; what those before have reported stays."""
        self.shape = shape
        for rank in (rank for members in shape.sets for rank in members):
            self.ranks.setdefault(rank, RankFrames())

    def members(self, ranks: Iterable[int]) -> list[RankFrames]:
        """Return the reports of some ranks, in their order."""
        return [self.ranks[rank] for rank in ranks]

    def view(self, among: BitMap64, evidence: BitMap64) -> StageView:
        """Judge the frames of `among`.

        Args:
            among: the frames that the question is about.
            evidence: those of them that were seen further down. They passed this pool, whether or not a
                report says so (a rank may die before its last report). Only a failure in a set of several
                ranks outweighs it: there the evidence comes from another rank of the set.
        """
        parts = [_judge_set(self.members(ranks), among, self.whole_sets) for ranks in self.shape.sets]
        out = union(part.out for part in parts)
        failed = union(part.failed for part in parts) - out
        if self.single_ranks:
            failed -= evidence
        out |= evidence - failed
        dropped = union(part.dropped for part in parts) - out - failed
        return StageView(union([*(part.seen for part in parts), evidence]), out, dropped, failed)


def _judge_set(members: Sequence[RankFrames], among: BitMap64, whole: bool) -> StageView:
    """Judge one set: failed where a rank failed, else ended where all have; output where one made it, or with `whole`
    where all did."""
    if len(members) == 1:
        (rank,) = members
        return StageView(
            rank.received & among, rank.processed & among, rank.dropped & among, rank.failed & among
        )
    failed = union(rank.failed & among for rank in members)
    processed = union(rank.processed & among for rank in members)
    ended = among - failed
    for rank in members:
        ended &= rank.processed | rank.dropped
    out = ended & processed
    if whole:
        out -= union(rank.dropped for rank in members)
    return StageView(union(rank.received & among for rank in members), out, ended - out, failed)


def build_stages(pools: Sequence[PoolShape]) -> dict[str, Stage]:
    """Link pools by their inputs; the result has every pool after its input.

    Raises:
        ValueError: no pool, a name twice or "source", an unknown input, or inputs in a circle.
    """
    names = [pool.name for pool in pools]
    if not pools or len(set(names)) != len(names) or SOURCE in names:
        raise ValueError(f"pools {names}: at least one, each name once, none named {SOURCE!r}")
    stages: dict[str, Stage] = {}
    waiting = list(pools)
    while waiting:
        linked = [pool for pool in waiting if all(name in stages for name in pool.inputs)]
        if not linked:
            raise ValueError(f"pools {[pool.name for pool in waiting]}: inputs are unknown or form a circle")
        for pool in linked:
            stages[pool.name] = Stage(pool, [stages[name] for name in pool.inputs])
        waiting = [pool for pool in waiting if pool.name not in stages]
    return stages
