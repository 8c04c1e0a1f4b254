"""The ledger against a model that follows every frame by itself."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap64

from beamcast.core.ids import ID_BITS
from beamcast.core.ledger import FrameTotals, Ledger, PoolShape, RankCounts

SINGLE = ((0,), (1,), (2,))
PAIRS = ((0, 1), (2, 3))
CONSUMER = PoolShape("work", "consumer", "source", SINGLE)
COLLECTOR = PoolShape("collect", "collector", "work", ((0,),))
SHAPES: Sequence[tuple[PoolShape, ...]] = (
    (CONSUMER,),
    (COLLECTOR, CONSUMER),
    (PoolShape("work", "consumer", "source", PAIRS), COLLECTOR),
    (CONSUMER, PoolShape("save", "consumer", "source", ((0, 1),))),
    (
        CONSUMER,
        COLLECTOR,
        PoolShape("fit", "consumer", "work", SINGLE),
        PoolShape("end", "collector", "fit", ((4,),)),
    ),
)
Report = tuple[str, str, int, set[int]]


@dataclass
class Model:
    """What was reported, frame by frame, and what follows from it by the rules in the ledger's docstrings."""

    pools: Sequence[PoolShape]
    result: str | None
    watch: bool
    marks: dict[tuple[str, int, int], set[str]] = field(default_factory=dict)
    mirror: set[int] | None = None
    delivered: set[int] = field(default_factory=set)
    known: set[int] = field(default_factory=set)

    def add(self, kind: str, pool: str, rank: int, keys: set[int]) -> None:
        self.known |= keys
        if kind == "mirrored":
            self.mirror = (self.mirror or set()) | keys
        elif kind == "delivered":
            self.delivered |= keys
        elif kind != "source":
            for key in keys:
                self.marks.setdefault((pool, rank, key), set()).add(kind)

    def rank_state(self, pool: str, rank: int, key: int) -> str:
        marks = self.marks.get((pool, rank, key), set())
        return next(
            (each for each in ("processed", "failed", "dropped", "received") if each in marks), "unseen"
        )

    def evidence(self, pool: PoolShape, key: int) -> bool:
        below = any(self.seen(child, key) for child in self.pools if child.input == pool.name)
        return below or (pool.name == self.result and key in self.delivered)

    def seen(self, pool: PoolShape, key: int) -> bool:
        ranks = [rank for members in pool.sets for rank in members]
        return self.evidence(pool, key) or any(
            self.rank_state(pool.name, rank, key) != "unseen" for rank in ranks
        )

    def outcome(self, pool: PoolShape, key: int) -> str:
        """'out', 'failed', 'dropped' or 'open'."""
        found = {self.set_outcome(pool, members, key) for members in pool.sets}
        alone = all(len(members) == 1 for members in pool.sets)
        if "out" in found or (self.evidence(pool, key) and (alone or "failed" not in found)):
            return "out"
        return next((each for each in ("failed", "dropped") if each in found), "open")

    def set_outcome(self, pool: PoolShape, members: tuple[int, ...], key: int) -> str:
        states = [self.rank_state(pool.name, rank, key) for rank in members]
        if "failed" in states:
            return "failed"
        if any(state in ("unseen", "received") for state in states):
            return "open"
        return "out" if "processed" in states else "dropped"

    def path_end(self, pool: PoolShape, key: int) -> str:
        """How the path to a pool ended: 'failed', 'dropped', 'collected' or 'open'."""
        found = [self.outcome(pool, key)]
        above = pool
        while above.input != "source":
            above = next(each for each in self.pools if each.name == above.input)
            found.append(self.outcome(above, key))
        for each in ("failed", "dropped"):
            if each in found:
                return each
        if pool.name == self.result and self.watch:
            return "collected" if key in self.delivered else "open"
        return "collected" if found[0] == "out" else "open"

    def final(self, key: int) -> str:
        inputs = {pool.input for pool in self.pools}
        ends = {
            p.name: self.path_end(p, key) for p in self.pools if p.name not in inputs or p.name == self.result
        }
        for each in ("open", "failed"):
            if each in ends.values():
                return each
        counting = [end for name, end in ends.items() if self.result in (None, name)]
        return "collected" if "collected" in counting else "dropped"


@st.composite
def cases(draw: st.DrawFn) -> tuple[Sequence[PoolShape], str | None, bool, list[Report]]:
    pools = draw(st.sampled_from(SHAPES))
    result = draw(st.sampled_from([None, *(pool.name for pool in pools)]))
    targets = [(pool.name, rank) for pool in pools for members in pool.sets for rank in members]
    kinds = ["received", "processed", "processed", "processed", "dropped", "failed", "delivered", "mirrored"]
    report = st.tuples(
        st.sampled_from(kinds), st.sampled_from(targets), st.sets(st.integers(0, 24), max_size=12)
    ).map(lambda drawn: (drawn[0], *drawn[1], drawn[2]))
    source: Report = ("source", "", 0, draw(st.sets(st.integers(0, 24))))
    reports = [source, *draw(st.lists(report, max_size=25))]
    return pools, result, result is not None and draw(st.booleans()), reports


def feed(ledger: Ledger, report: Report) -> None:
    kind, pool, rank, keys = report
    match kind:
        case "source" | "mirrored" | "delivered":
            getattr(ledger, kind)(keys)
        case _:
            getattr(ledger, kind)(pool, rank, sorted(keys))


@given(cases(), st.sampled_from([0, 0, 7]), st.booleans())
def test_every_frame_has_the_state_that_the_model_gives_it(
    case: tuple[Sequence[PoolShape], str | None, bool, list[Report]], first: int, ask_often: bool
) -> None:
    pools, result, watch, reports = case
    ledger = Ledger(pools, result, watch_results=watch)
    model = Model(pools, result, watch)
    for index, report in enumerate(reports):
        feed(ledger, report)
        model.add(*report)
        if ask_often:
            ledger.is_whole()
        if index == len(reports) // 2:
            ledger.count_from(first)
    states = {key: model.final(key) for key in model.known if key >= first}
    ends = list(states.values())
    roots = [pool for pool in pools if pool.input == "source"]
    assert ledger.totals() == FrameTotals(
        source=len(states),
        received=sum(any(model.seen(pool, key) for pool in roots) for key in states),
        processed=sum(any(model.outcome(pool, key) == "out" for pool in roots) for key in states),
        collected=ends.count("collected"),
        dropped=ends.count("dropped"),
        failed=ends.count("failed"),
        lost=ends.count("open"),
        duplicates=0,
        skipped=skipped([*states, *([first - 1] if first and states else [])]),
    )
    assert set(ledger.outstanding()) == {key for key, end in states.items() if end == "open"}
    assert ledger.is_whole() == ("open" not in ends)
    check_missing(ledger, model)


def check_missing(ledger: Ledger, model: Model) -> None:
    """Missing entries part the outstanding frames, and each hop is the first that lacks its frames."""
    entries = ledger.missing()
    named = [key for entry in entries for key in entry.keys]
    assert sorted(named) == sorted(ledger.outstanding())
    assert len({(entry.hop, entry.pool, entry.rank) for entry in entries}) == len(entries)
    pools = {pool.name: pool for pool in model.pools}
    for entry in entries:
        before, _, behind = entry.hop.partition("→")
        for key in entry.keys:
            if behind == "mirror":
                assert model.mirror is not None
                assert key not in model.mirror
                assert not any(model.seen(pool, key) for pool in pools.values())
            elif not behind:
                assert entry.rank is not None
                assert model.rank_state(before, entry.rank, key) == "received"
            elif behind == "result":
                assert model.outcome(pools[before], key) == "out"
                assert key not in model.delivered
            else:
                assert model.outcome(pools[behind], key) == "open"
                assert before == "mirror" or model.outcome(pools[before], key) == "out"


@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_reports_does_not_matter(
    case: tuple[Sequence[PoolShape], str | None, bool, list[Report]], random: object
) -> None:
    pools, result, watch, reports = case
    shuffled = list(reports)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    answers = []
    for each in (reports, shuffled, reports + shuffled):
        ledger = Ledger(pools, result, watch_results=watch)
        for report in each:
            feed(ledger, report)
        answers.append((ledger.totals(), ledger.outstanding()))
    assert answers[0] == answers[1] == answers[2]


def pipeline(*, updates: int = 1, ranks: int = 4) -> Ledger:
    sets = tuple((rank,) for rank in range(ranks))
    work = PoolShape("work", "consumer", "source", sets, updates)
    return Ledger([work, COLLECTOR], "collect", watch_results=True)


def by_place(ledger: Ledger) -> dict[tuple[str, int | None], set[int]]:
    return {(entry.hop, entry.rank): set(entry.keys) for entry in ledger.missing()}


@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 5), st.integers(30, 120), st.integers(1, 1000))
def test_frames_of_a_dead_rank_are_named_with_its_number(
    ranks: int, updates: int, dead: int, dies_at: int, first_id: int
) -> None:
    dead %= ranks
    ledger = pipeline(updates=updates, ranks=ranks)
    ids = range(first_id, first_id + 240)
    ledger.source(ids)
    lost = set()
    for number, key in enumerate(ids):
        rank = number // updates % ranks
        if rank == dead and number >= dies_at:
            lost.add(key)
        else:
            ledger.processed("work", rank, [key])
            ledger.delivered([key])
    expected = {("mirror→work", dead): lost} if lost else {}
    assert by_place(ledger) == expected


def test_a_gap_is_shared_out_by_turn() -> None:
    ledger = pipeline()
    ledger.source(range(100))
    for key in [*range(40), *range(60, 100)]:
        ledger.processed("work", key % 4, [key])
        ledger.delivered([key])
    assert by_place(ledger) == {("mirror→work", rank): set(range(40 + rank, 60, 4)) for rank in range(4)}


def test_frames_before_any_known_one_take_their_owner_from_later_ones() -> None:
    ledger = pipeline()
    ledger.source(range(40))
    for key in range(10, 40):
        ledger.processed("work", key % 4, [key])
        ledger.delivered([key])
    assert by_place(ledger)[("mirror→work", 3)] == {3, 7}


def test_without_any_known_owner_none_is_named() -> None:
    ledger = pipeline()
    ledger.source(range(40))
    assert by_place(ledger) == {("mirror→work", None): set(range(40))}


def test_each_hop_is_told_apart() -> None:
    ledger = pipeline(ranks=1)
    ledger.source(range(6))
    ledger.mirrored(range(1, 6))
    ledger.received("work", 0, range(2, 6))
    ledger.processed("work", 0, range(3, 6))
    ledger.processed("collect", 0, range(4, 6))
    ledger.delivered([5])
    assert by_place(ledger) == {
        ("source→mirror", None): {0},
        ("mirror→work", 0): {1},
        ("work", 0): {2},
        ("work→collect", 0): {3},
        ("collect→result", 0): {4},
    }
    assert [entry.pool for entry in ledger.missing()] == [None, "work", "work", "work", "collect"]
    assert not ledger.is_whole()


def skipped(keys: Iterable[int]) -> int:
    """Ids between the first and the last of each epoch that are not among the keys."""
    epochs: dict[int, list[int]] = {}
    for key in keys:
        epochs.setdefault(key >> 48, []).append(key)
    return sum(max(each) - min(each) + 1 - len(each) for each in epochs.values())


def test_a_frame_that_others_have_overtaken_is_lost_for_good_unless_a_rank_may_have_it() -> None:
    """I8."""
    ledger = pipeline()
    live = {"work": [0, 1], "collect": [0]}
    ledger.mirrored(range(1, 21))
    ledger.processed("work", 0, [1, 3, 7, 9, 11])
    ledger.received("work", 0, [5])  # begun, and not ended
    ledger.processed("work", 1, [2, 6])
    ledger.arrived("collect", ("work", 0), [1, 3, 7, 9, 11])
    ledger.delivered([1, 3, 7, 9, 11])
    assert ledger.last_ended() == 11
    # Rank 1 has got nothing later than 6: 8 and 10 may wait in its queue. 2 has left it and was not seen again.
    assert set(ledger.overtaken(11, live)) == {2, 4}
    assert set(ledger.overtaken(3, live)) == {2}
    assert set(ledger.overtaken(11, {**live, "work": [1]})) == {2, 4, 5}, (
        "a rank that is dead has nothing in hand"
    )
    assert set(ledger.unmirrored(ledger.overtaken(11, live))) == set()


def test_missing_ids_are_told_with_whether_somebody_watched() -> None:
    """I7: a gap is the source's own only where the frames on both sides were seen there, one after the other."""
    ledger = pipeline()
    ledger.source([3, 4, 8, 20, 21])
    ledger.count_from(2)  # behind frame 1: what is missing at the begin is missing in the run
    ledger.received("work", 0, [10, 15])
    ledger.unsure([8])
    told = [(gap.first, gap.last, watched) for gap, watched in ledger.skipped()]
    assert told == [(2, 2, True), (5, 7, False), (9, 9, False), (11, 14, False), (16, 19, False)]
    assert ledger.totals().skipped == 1 + 3 + 1 + 4 + 4
    assert ledger.unwitnessed() == 2
    epoch = 1 << ID_BITS
    ledger.source([epoch + 37, epoch + 38])
    assert ledger.epoch_begins() == (epoch + 37,)
    again = pipeline()
    again.take_up(ledger.state())
    assert [(gap, watched) for gap, watched in again.skipped()] == list(ledger.skipped())
    assert again.unwitnessed() == 2


def test_what_a_source_sent_while_nobody_watched_is_known_by_the_gap() -> None:
    epoch = 2 << ID_BITS
    for sent, known in (
        (range(epoch + 1, epoch + 11), 20),  # 11 to 17 were sent: all numbers up to here were
        (range(epoch + 1, epoch + 11, 3), 4 + 3),  # it leaves out numbers, so nobody knows
    ):
        ledger = pipeline()
        ledger.source(sent)
        # A rank was quicker than the next witness.
        ledger.received("work", 1, [epoch + 18])
        ledger.unwatched(epoch + 10, epoch + 18)
        ledger.source(range(epoch + 18, epoch + 21))
        assert ledger.totals().source == known
    ledger = pipeline()
    ledger.source(range(1, 11))
    for first in (5, 11, 10**9, epoch + 3):  # no gap, none, one that is too long, another life of the source
        ledger.unwatched(10, first)
    assert ledger.totals().source == 10


def test_what_the_collector_has_counts_as_processed_by_a_rank_that_died_silent() -> None:
    ledger = Ledger([CONSUMER, COLLECTOR], "collect")
    ledger.source([1, 2, 3])
    ledger.processed("collect", 0, [1, 2, 3])
    assert ledger.is_whole()
    assert ledger.totals() == FrameTotals(3, 3, 3, 3, 0, 0, 0, 0)
    assert ledger.rank_counts("work", 0) == RankCounts(0, 0, 0, 0)


def test_a_frame_that_a_pair_got_by_half_names_the_other_rank() -> None:
    ledger = Ledger([PoolShape("work", "consumer", "source", PAIRS)], None)
    ledger.source([1, 2])
    ledger.processed("work", 0, [1, 2])
    ledger.processed("work", 1, [1])
    assert by_place(ledger) == {("mirror→work", 1): {2}}


def test_counts_of_a_rank_leave_earlier_frames_out() -> None:
    ledger = pipeline()
    ledger.received("work", 2, range(10))
    ledger.processed("work", 2, [0, 4, 5])
    ledger.dropped("work", 2, [1, 6])
    ledger.failed("work", 2, [7, 5])
    ledger.count_from(4)
    assert ledger.rank_counts("work", 2) == RankCounts(received=6, processed=2, dropped=1, failed=1)


def test_duplicates_of_a_restarted_rank_add_up() -> None:
    ledger = pipeline()
    for count in (3, 5, 2):
        ledger.duplicates("work", 0, count)
    ledger.duplicates("collect", 0, 1)
    assert ledger.totals().duplicates == 8


def test_asking_again_judges_only_what_is_new() -> None:
    ledger = Ledger([CONSUMER], None)
    many = BitMap64()
    many.add_range(0, 50_000_000)
    ledger.source(many)
    ledger.processed("work", 0, many)
    assert ledger.is_whole()
    ledger.source([50_000_000])
    assert len(ledger._changed) == 1
    assert not ledger.is_whole()
    assert not ledger._changed


def test_answers_and_reports_are_independent_sets() -> None:
    ledger = Ledger([CONSUMER], None)
    keys = BitMap64([1, 2])
    ledger.source(keys)
    ledger.mirrored(keys)
    ledger.received("work", 0, keys)
    ledger.outstanding().clear()
    keys.add(9)
    assert set(ledger.outstanding()) == {1, 2}


@pytest.mark.parametrize(
    ("pools", "result", "watch", "message"),
    [
        ([], None, False, "at least one"),
        ([CONSUMER, CONSUMER], None, False, "once"),
        ([COLLECTOR], None, False, "unknown"),
        (
            [PoolShape("a", "consumer", "b", ((0,),)), PoolShape("b", "consumer", "a", ((0,),))],
            None,
            False,
            "circle",
        ),
        ([CONSUMER], "collect", False, "result pool"),
        ([CONSUMER], None, True, "watch_results"),
    ],
)
def test_pools_that_do_not_fit_are_refused(
    pools: list[PoolShape], result: str | None, watch: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Ledger(pools, result, watch_results=watch)


@pytest.mark.parametrize(("sets", "updates"), [((), 1), (((),), 1), (((0,), (0,)), 1), (((0,),), 0)])
def test_shapes_that_make_no_sense_are_refused(sets: tuple[tuple[int, ...], ...], updates: int) -> None:
    with pytest.raises(ValueError, match="pool 'p'"):
        PoolShape("p", "consumer", "source", sets, updates)


@pytest.mark.parametrize(("pool", "rank"), [("nobody", 0), ("work", 99)])
def test_reports_of_strangers_are_refused(pool: str, rank: int) -> None:
    ledger = pipeline()
    with pytest.raises(ValueError, match="no rank"):
        ledger.received(pool, rank, [1])
    assert ledger.totals().source == 0


def test_frames_that_were_sent_after_the_order_to_stop_count_only_where_they_come_through() -> None:
    ledger = Ledger((CONSUMER, COLLECTOR), "collect", watch_results=True)
    ledger.mirrored(range(1, 11))
    for rank in range(3):
        ledger.processed("work", rank, range(1 + rank, 11, 3))
    ledger.processed("collect", 0, range(1, 11))
    ledger.delivered(range(1, 9))
    ledger.end_with(10)
    assert not ledger.is_whole()
    # The detector goes on: 12 and 14 are on their way when everything has stopped.
    ledger.mirrored(range(11, 15))
    ledger.received("work", 1, [11, 14])
    ledger.processed("work", 1, [11])
    ledger.delivered([9, 10, 11, 13])
    assert ledger.is_whole()
    totals = ledger.totals()
    assert (totals.source, totals.received, totals.collected, totals.lost) == (12, 12, 12, 0)
    assert totals.skipped == 0
    assert ledger.missing() == ()
    assert list(ledger.received_by("work", 1)) == [2, 5, 8]
    # What was on its way comes through all the same.
    ledger.delivered([12])
    assert ledger.totals().collected == 13


def test_what_was_sent_before_the_order_to_stop_can_be_lost() -> None:
    ledger = Ledger((CONSUMER,), "work", watch_results=True)
    ledger.end_with(-1)
    ledger.mirrored([1, 2])
    assert ledger.totals() == FrameTotals(0, 0, 0, 0, 0, 0, 0, 0)
    ledger = Ledger((CONSUMER,), "work", watch_results=True)
    ledger.mirrored([1, 2])
    ledger.end_with(2)
    ledger.delivered([1, 3])
    assert list(ledger.outstanding()) == [2]
    assert ledger.totals().source == 3
