"""Which frames are where: the merged ledger of one run.

The choice: reports are sets of frame keys, and only the frames that a report names are judged again. So
asking `is_whole` costs what has changed since the last time, not what the run holds.

A frame seen anywhere belongs to the source, and a frame seen further down has passed everything above. Pools
form a tree whose branches may meet again where parts of frames are put together; there a frame that failed,
or was dropped, on one branch has its end. A frame is whole when every path has an end: the last pool finished
it (or the result was seen at the beamline), a processor dropped it, or it failed. Over all paths a frame has
exactly one state: outstanding while one path has no end, else failed if it failed on one, else collected if
it left the result pool (without one: any last pool), else dropped.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields

from pyroaring import BitMap64

from beamcast.core.ids import ID_BITS, ID_MASK
from beamcast.core.keyset import (
    Gap,
    as_keys,
    count_from_key,
    count_gaps,
    decode_keys,
    encode_keys,
    from_key,
    gaps,
    union,
)
from beamcast.core.ledger_state import LedgerState, ledger_state
from beamcast.core.loss import LossFinder, Missing
from beamcast.core.stage import PoolShape, RankFrames, Stage, StageView, build_stages

__all__ = [
    "FrameTotals",
    "Ledger",
    "Missing",
    "PoolShape",
    "RankCounts",
    "decode_keys",
    "encode_keys",
]

# Frames of a minute at 20 kHz.
MOST_UNWATCHED = 1_200_000

Keys = Iterable[int] | BitMap64


@dataclass(frozen=True, slots=True)
class FrameTotals:
    """Numbers of frames. source = collected + dropped + failed + lost.

    `received` and `processed` count frames that reached, and left, at least one pool that reads the source.
    `lost` are the outstanding frames: until the run is drained they may still come. `duplicates` are repeated
    frames that ranks have discarded. `skipped`: ids between the first and the last that the source never sent.
    """

    source: int
    received: int
    processed: int
    collected: int
    dropped: int
    failed: int
    lost: int
    duplicates: int
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class RankCounts:
    """Numbers of frames as one rank reported them; received includes the other three, which are disjoint."""

    received: int
    processed: int
    dropped: int
    failed: int


@dataclass(slots=True)
class _Judged:
    """The frames of the run by what is known of them."""

    source: BitMap64 = field(default_factory=BitMap64)
    received: BitMap64 = field(default_factory=BitMap64)
    processed: BitMap64 = field(default_factory=BitMap64)
    collected: BitMap64 = field(default_factory=BitMap64)
    dropped: BitMap64 = field(default_factory=BitMap64)
    failed: BitMap64 = field(default_factory=BitMap64)
    outstanding: BitMap64 = field(default_factory=BitMap64)

    def leave_out(self, keys: BitMap64) -> None:
        """Know nothing of `keys`."""
        for each in fields(self):
            mine: BitMap64 = getattr(self, each.name)
            mine -= keys

    def replace(self, keys: BitMap64, judged: "_Judged") -> None:
        """Put what is now known of `keys` in the place of what was known."""
        self.leave_out(keys)
        for each in fields(self):
            mine: BitMap64 = getattr(self, each.name)
            mine |= getattr(judged, each.name)


class Ledger:
    """Merges reports and answers where frames are. One thread."""

    def __init__(
        self, pools: Sequence[PoolShape], result_pool: str | None, *, watch_results: bool = False
    ) -> None:
        """Make an empty ledger.

        Args:
            pools: the pools of the run, in any order.
            result_pool: the pool whose output is the result; None where no result leaves the pools.
            watch_results: whether results are seen at the beamline (`delivered`), so that a frame is
                collected only then.

        Raises:
            ValueError: pools that don't fit together, an unknown `result_pool`, or none to watch.
        """
        self._stages = build_stages(pools)
        if result_pool is not None and result_pool not in self._stages:
            raise ValueError(f"result pool {result_pool!r} is none of {sorted(self._stages)}")
        if watch_results and result_pool is None:
            raise ValueError("watch_results needs a result pool")
        self._result = self._stages[result_pool] if result_pool is not None else None
        self._watch_results = watch_results
        self._mirrored: BitMap64 | None = None
        self._delivered = BitMap64()
        self._first = 0
        self._last: int | None = None
        self._known = BitMap64()
        self._witnessed = BitMap64()
        self._unsure = BitMap64()
        self._changed = BitMap64()
        self._judged = _Judged()

    def extend(self, shape: PoolShape) -> None:
        """A pool has more ranks now; none that it had may be missing. ValueError for an unknown pool."""
        stage = self._stages.get(shape.name)
        if stage is None:
            raise ValueError(f"the ledger has no pool {shape.name!r}")
        stage.extend(shape)

    def source(self, keys: Keys) -> None:
        """Frames seen at the source."""
        keys = as_keys(keys)
        self._witnessed |= keys
        self._note(keys)

    def unsure(self, keys: Keys) -> None:
        """Before each of these frames there was a time in which nobody watched the source."""
        self._unsure |= as_keys(keys)

    def unwatched(self, last: int, first: int) -> None:
        """Nobody watched the source after frame `last` until `first`. If it has left out no id up to `last`, it has
        sent those between; a gap that nobody could have slept through is one of its own."""
        if last >> ID_BITS != first >> ID_BITS or not 0 < first - last - 1 <= MOST_UNWATCHED:
            return
        before = from_key(self._known, self._first).copy()
        if before:
            before.remove_range(last + 1, max(before.max(), last) + 1)
        if not count_gaps(before):
            self.source(BitMap64(range(last + 1, first)))

    def mirrored(self, keys: Keys) -> None:
        """Frames that the mirror had. Where it never reports, losses before it count as losses behind it."""
        keys = as_keys(keys)
        self._mirrored = keys.copy() if self._mirrored is None else self._mirrored | keys
        self._note(keys)

    def received(self, pool: str, rank: int, keys: Keys) -> None:
        """Frames that a rank has got.

        Raises:
            ValueError: an unknown pool or rank, as in every report of a rank.
        """
        frames, keys = self._rank(pool, rank), as_keys(keys)
        frames.received |= keys
        self._note(keys)

    def processed(self, pool: str, rank: int, keys: Keys) -> None:
        """Frames whose processor ended and whose output, if the pool has one, was published."""
        frames, keys = self._rank(pool, rank), as_keys(keys)
        frames.add_processed(keys)
        self._note(keys)

    def dropped(self, pool: str, rank: int, keys: Keys) -> None:
        """Frames for which the processor chose no output."""
        frames, keys = self._rank(pool, rank), as_keys(keys)
        frames.add_dropped(keys)
        self._note(keys)

    def failed(self, pool: str, rank: int, keys: Keys) -> None:
        """Frames whose processor raised. A later `processed` of the same frame wins."""
        frames, keys = self._rank(pool, rank), as_keys(keys)
        frames.add_failed(keys)
        self._note(keys)

    def arrived(self, pool: str, sender: tuple[str, int], keys: Keys) -> None:
        """Outputs of a rank of the input pool (`sender`: pool and rank) that have come to `pool`.

        Raises:
            ValueError: an unknown sender or pool.
        """
        stage = self._stages.get(pool)
        if stage is None:
            raise ValueError(f"the ledger has no pool {pool!r}")
        self.processed(*sender, keys)
        if stage.shape.of_parts:
            stage.arrived[sender] |= as_keys(keys)

    def delivered(self, keys: Keys) -> None:
        """Frames whose result was seen at the beamline."""
        keys = as_keys(keys)
        self._delivered |= keys
        self._note(keys)

    def duplicates(self, pool: str, rank: int, count: int) -> None:
        """How many repeated frames a rank has discarded since its process started."""
        self._rank(pool, rank).set_duplicates(count)

    def count_from(self, key: int) -> None:
        """Leave frames below `key` out of all answers: they were sent before the run was ready."""
        self._first = key
        self._judged = _Judged()
        self._changed = self._known.copy()

    def end_with(self, key: int) -> None:
        """The run was told to stop when frame `key` was the last that was known (-1: none was), and its source goes on:
        frames above count where they come to their end, and are nobody's where they don't."""
        self._last = key

    def state(self) -> LedgerState:
        """All that was reported, to be kept."""
        return ledger_state(
            self._stages,
            first=self._first,
            seen=self._known,
            mirrored=self._mirrored,
            delivered=self._delivered,
            witnessed=self._witnessed,
            unsure=self._unsure,
        )

    def take_up(self, state: LedgerState) -> None:
        """Know what another ledger of the same pools has known. ValueError where it had other pools or ranks, or where
        a set can't be read."""
        self._note(decode_keys(state.seen))
        self.source(decode_keys(state.witnessed))
        self.unsure(decode_keys(state.unsure))
        if state.mirrored is not None:
            self.mirrored(decode_keys(state.mirrored))
        self.delivered(decode_keys(state.delivered))
        for each in state.ranks:
            self.received(each.pool, each.rank, decode_keys(each.received))
            self.processed(each.pool, each.rank, decode_keys(each.processed))
            self.dropped(each.pool, each.rank, decode_keys(each.dropped))
            self.failed(each.pool, each.rank, decode_keys(each.failed))
        for part in state.arrived:
            self.arrived(part.pool, part.sender, decode_keys(part.keys))
        self.count_from(state.first)

    @property
    def last_key(self) -> int | None:
        """The highest key that is known; None where none is."""
        return self._known.max() if self._known else None

    def final_results(self) -> BitMap64:
        """Return a copy of the frames whose result is known to have left the last pool."""
        if self._watch_results:
            return self._delivered.copy()
        leaves = [stage for stage in self._stages.values() if not stage.children]
        return union(frames.processed for stage in leaves for frames in stage.ranks.values())

    def totals(self) -> FrameTotals:
        """Return the numbers of frames by state."""
        judged = self._settled()
        ranks = [frames for stage in self._stages.values() for frames in stage.ranks.values()]
        return FrameTotals(
            source=len(judged.source),
            received=len(judged.received),
            processed=len(judged.processed),
            collected=len(judged.collected),
            dropped=len(judged.dropped),
            failed=len(judged.failed),
            lost=len(judged.outstanding),
            duplicates=sum(frames.duplicates_before + frames.duplicates for frames in ranks),
            skipped=count_gaps(self._with_begin(judged.source)),
        )

    def skipped(self) -> Iterator[tuple[Gap, bool]]:
        """The ids that are missing between the frames of the run, as `totals().skipped` counts them, and of each run of
        them whether somebody watched the source meanwhile, and did not see it send them."""
        for gap in gaps(self._with_begin(self._settled().source)):
            begins = gap.before == self._first - 1
            watched = gap.after in self._witnessed and (begins or gap.before in self._witnessed)
            yield gap, watched and gap.after not in self._unsure

    def unwitnessed(self) -> int:
        """Return how many frames of the run have come through without having been seen at the source."""
        return len(self._of_the_run(self._settled().source - self._witnessed))

    def epoch_begins(self) -> tuple[int, ...]:
        """Return the first key of each epoch that began in the run."""
        source = self._of_the_run(self._settled().source)
        if not source:
            return ()
        epochs = range((source.min() >> ID_BITS) + 1, (source.max() >> ID_BITS) + 1)
        ranks = [source.rank((epoch << ID_BITS) - 1) for epoch in epochs]
        firsts = [source[rank] for rank in ranks if rank < len(source)]
        return tuple(dict.fromkeys(firsts))

    def _with_begin(self, source: BitMap64) -> BitMap64:
        """The frames of the run, and the last one before it, where it began behind one: what is missing then is missing
        in the run."""
        frames = self._of_the_run(source)
        if not self._first & ID_MASK or not frames or frames.min() >> ID_BITS != self._first >> ID_BITS:
            return frames
        return frames | BitMap64([self._first - 1])

    def seen(self) -> int:
        """Return how many frames are known, as `totals().source`, without judging any."""
        return count_from_key(self._known, self._first)

    def outstanding(self) -> BitMap64:
        """Return a copy of the frames without a final state."""
        return self._settled().outstanding.copy()

    def last_ended(self) -> int:
        """Return the highest key that has its final state; 0 where none has."""
        judged = self._settled()
        return max(
            (keys.max() for keys in (judged.collected, judged.dropped, judged.failed) if keys), default=0
        )

    def overtaken(self, before: int, live: Mapping[str, Collection[int]]) -> BitMap64:
        """Return the outstanding frames below `before` that no rank can have in hand: each live rank (by pool) of a
        pool that reads the source has got a later one, and none has begun and not ended them."""
        outstanding = self._settled().outstanding
        among = outstanding - from_key(outstanding, before) if before else BitMap64()
        for name, stage in self._stages.items():
            for rank in live.get(name, ()):
                frames = stage.ranks[rank]
                if not stage.parents:
                    among -= from_key(among, frames.received.max() if frames.received else 0)
                among -= (among & frames.received) - frames.processed - frames.dropped - frames.failed
        return among

    def unmirrored(self, keys: BitMap64) -> BitMap64:
        """Return those of the keys that the mirror never had."""
        return keys - self._mirror_order()

    def is_whole(self) -> bool:
        """Whether every frame seen so far has its final state. Costs what is new since the last call."""
        return not self._settled().outstanding

    def missing(self) -> tuple[Missing, ...]:
        """Return where the outstanding frames got lost, each in one entry; meant for a drained run."""
        judged = self._settled()
        outstanding = judged.outstanding
        if not outstanding:
            return ()
        views = self._views(outstanding)
        finder = LossFinder(outstanding, self._mirror_order())
        finder.search_mirror()
        finder.search_stages(tuple(self._stages.values()), views)
        if self._result is not None and self._watch_results:
            finder.search_results(self._result, views[self._result.shape.name].out - self._delivered)
        return finder.result()

    def rank_counts(self, pool: str, rank: int) -> RankCounts:
        """Return what a rank has reported. Raises ValueError for an unknown pool or rank."""
        frames, first = self._rank(pool, rank), self._first
        return RankCounts(
            received=count_from_key(frames.received, first),
            processed=count_from_key(frames.processed, first),
            dropped=count_from_key(frames.dropped, first),
            failed=count_from_key(frames.failed, first),
        )

    def received_by(self, pool: str, rank: int) -> BitMap64:
        """Return a copy of the frames of the run that a rank has got. Raises ValueError as `rank_counts`."""
        return self._of_the_run(from_key(self._rank(pool, rank).received, self._first))

    def _of_the_run(self, keys: BitMap64) -> BitMap64:
        """Those that were known before it was told to stop."""
        return keys if self._last is None else keys - from_key(keys, self._last + 1)

    def _note(self, keys: BitMap64) -> None:
        self._known |= keys
        self._changed |= keys

    def _rank(self, pool: str, rank: int) -> RankFrames:
        stage = self._stages.get(pool)
        if stage is None or rank not in stage.ranks:
            raise ValueError(f"the ledger has no rank {rank} in a pool {pool!r}")
        return stage.ranks[rank]

    def _settled(self) -> _Judged:
        """Judge again what was reported since the last time."""
        if self._changed:
            changed = from_key(self._changed, self._first)
            judged = self._judge(changed if self._last is None else changed.copy())
            if self._last is not None:
                judged.leave_out(from_key(judged.outstanding, self._last + 1).copy())
            self._judged.replace(changed, judged)
            self._changed = BitMap64()
        return self._judged

    def _judge(self, among: BitMap64) -> _Judged:
        views = self._views(among)
        roots = [views[name] for name, stage in self._stages.items() if not stage.parents]
        final, failed, complete = self._ends(among, views)
        failed &= final
        collected = (complete & final) - failed
        return _Judged(
            source=among,
            received=union(view.seen for view in roots),
            processed=union(view.out for view in roots),
            collected=collected,
            dropped=final - failed - collected,
            failed=failed,
            outstanding=among - final,
        )

    def _views(self, among: BitMap64) -> dict[str, StageView]:
        """Judge every pool, last pools first: what they saw is evidence for those before them."""
        views: dict[str, StageView] = {}
        for name, stage in reversed(self._stages.items()):
            evidence = union(views[child.shape.name].seen for child in stage.children)
            if stage is self._result:
                evidence |= self._delivered & among
            views[name] = stage.view(among, evidence)
        return views

    def _ends(self, among: BitMap64, views: dict[str, StageView]) -> tuple[BitMap64, BitMap64, BitMap64]:
        """Frames that have an end on every path; that failed on one; that are complete on one that counts."""
        final, any_failed, collected = among.copy(), BitMap64(), BitMap64()
        failed: dict[str, BitMap64] = {}
        dropped: dict[str, BitMap64] = {}
        for name, stage in self._stages.items():
            before = [parent.shape.name for parent in stage.parents]
            failed[name] = union([views[name].failed, *(failed[parent] for parent in before)])
            dropped[name] = union([views[name].dropped, *(dropped[parent] for parent in before)])
            if stage.children and stage is not self._result:
                continue
            complete = self._complete(stage, views[name], among)
            final &= failed[name] | dropped[name] | complete
            any_failed |= failed[name]
            if self._result is None or stage is self._result:
                collected |= complete
        return final, any_failed, collected

    def _complete(self, stage: Stage, view: StageView, among: BitMap64) -> BitMap64:
        if stage is self._result and self._watch_results:
            return self._delivered & among
        return view.out

    def _mirror_order(self) -> BitMap64:
        """Frames that the mirror reported or that were seen behind it; all frames where it never reports."""
        if self._mirrored is None:
            return self._judged.source
        ranks = [frames for stage in self._stages.values() for frames in stage.ranks.values()]
        order = self._mirrored.union(self._delivered, *(frames.received for frames in ranks))
        return from_key(order, self._first)
