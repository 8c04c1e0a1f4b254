"""Where frames that never reached a final state were lost.

The choice: a frame counts as lost at the first hop behind which nobody saw it, and in one entry only, even
where several paths lack it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyroaring import BitMap64

from beamcast.core.keyset import union
from beamcast.core.rotation import Rotation
from beamcast.core.stage import RankFrames, Stage, StageView


@dataclass(frozen=True, slots=True)
class Missing:
    """Frames lost at one hop.

    `hop` is "source→mirror", "mirror→<pool>", "<pool>" (received and never finished), "<pool>→<pool>" or
    "<pool>→result". `pool` and `rank` name the process nearest to the loss: the receiver (inferred) at
    "mirror→<pool>", the one that holds the frame at "<pool>", the sender that reported it processed at the
    hops behind it; None where unclear.
    """

    hop: str
    pool: str | None
    rank: int | None
    keys: BitMap64


class LossFinder:
    """Takes outstanding frames and gives each to the first hop that lacks it."""

    def __init__(self, outstanding: BitMap64, order: BitMap64) -> None:
        """Take the frames to be found and the order in which the mirror sent frames."""
        self._left = outstanding.copy()
        self._order = order
        self._found: dict[tuple[str, str | None, int | None], BitMap64] = {}

    def result(self) -> tuple[Missing, ...]:
        """Return what was found, in the order of the hops."""
        return tuple(Missing(*where, keys) for where, keys in self._found.items())

    def search_mirror(self) -> None:
        """Find what the mirror never had."""
        self._take("source→mirror", None, None, self._left - self._order)

    def search_stages(self, stages: Sequence[Stage], views: Mapping[str, StageView]) -> None:
        """Find what got lost before or in a pool. `stages` has every pool after its input."""
        for stage in stages:
            view = views[stage.shape.name]
            unfinished = self._left - view.out - view.failed - view.dropped
            for parent in stage.parents:
                unfinished &= views[parent.shape.name].out
            if unfinished:
                self._search_stage(stage, unfinished)

    def search_results(self, stage: Stage, undelivered: BitMap64) -> None:
        """Find results that left their pool and were never seen at the beamline."""
        self._take_by_sender(f"{stage.shape.name}→result", stage, undelivered & self._left)

    def _search_stage(self, stage: Stage, unfinished: BitMap64) -> None:
        name = stage.shape.name
        before = "+".join(parent.shape.name for parent in stage.parents) or "mirror"
        for ranks in stage.shape.sets:
            begun = union(rank.received & unfinished for rank in stage.members(ranks))
            for rank in ranks:
                self._take(f"{before}→{name}", name, rank, begun - stage.ranks[rank].received)
            for rank in ranks:
                frames = stage.ranks[rank]
                self._take(name, name, rank, begun - frames.processed - frames.dropped)
        if stage.shape.of_parts:
            self._take_by_part(stage, unfinished & self._left)
        elif stage.parents:
            self._take_by_sender(f"{before}→{name}", stage.parents[0], unfinished & self._left)
        else:
            self._take_by_turn(f"{before}→{name}", stage, unfinished & self._left)

    def _take_by_part(self, stage: Stage, keys: BitMap64) -> None:
        """A frame is lost with its first part that was sent and has not come; where all have, it is lost here."""
        name = stage.shape.name
        for parent in stage.parents:
            for rank, frames in parent.ranks.items():
                on_the_way = (keys & frames.processed) - stage.arrived[parent.shape.name, rank]
                self._take(f"{parent.shape.name}→{name}", parent.shape.name, rank, on_the_way)
        alone = len(stage.ranks) == 1
        self._take(name, name, next(iter(stage.ranks)) if alone else None, keys)

    def _take_by_sender(self, hop: str, sender: Stage, keys: BitMap64) -> None:
        for rank, frames in sender.ranks.items():
            self._take(hop, sender.shape.name, rank, keys & frames.processed)
        self._take(hop, sender.shape.name, None, keys)

    def _take_by_turn(self, hop: str, stage: Stage, keys: BitMap64) -> None:
        if not keys:
            return
        sets = stage.shape.sets
        received = [_received(stage.members(ranks)) for ranks in sets]
        rotation = Rotation(self._order, received, stage.shape.updates)
        for owner, lost in rotation.owners(keys).items():
            alone = owner is not None and len(sets[owner]) == 1
            self._take(hop, stage.shape.name, sets[owner][0] if owner is not None and alone else None, lost)

    def _take(self, hop: str, pool: str | None, rank: int | None, keys: BitMap64) -> None:
        taken = keys & self._left
        if taken:
            self._left -= taken
            where = (hop, pool, rank)
            self._found[where] = self._found.get(where, BitMap64()) | taken


def _received(members: Sequence[RankFrames]) -> BitMap64:
    """What a set received; no copy for a set of one rank, whose bitmap may hold the whole run."""
    return members[0].received if len(members) == 1 else union(rank.received for rank in members)
