"""The ledger where frames are put together from parts: gathered from ranks, joined from pools."""

import pytest

from beamcast.core.ledger import Ledger, PoolShape

WORK = PoolShape("work", "consumer", "source", ((0, 1, 2),))
STITCH = PoolShape("stitch", "collector", "work", ((0,),), gather=True)
LEFT = PoolShape("left", "consumer", "source", ((0,), (1,)))
RIGHT = PoolShape("right", "consumer", "source", ((0,),))
BOTH = PoolShape("both", "collector", "left", ((0,),), join=("right",))
ONE = {1}


def missing(ledger: Ledger) -> list[tuple[str, str | None, int | None, list[int]]]:
    return [(one.hop, one.pool, one.rank, list(one.keys)) for one in ledger.missing()]


def gathered() -> Ledger:
    ledger = Ledger([STITCH, WORK], "stitch")
    ledger.source(ONE)
    ledger.mirrored(ONE)
    return ledger


def arrive(ledger: Ledger, *ranks: int) -> None:
    for rank in ranks:
        ledger.arrived("stitch", ("work", rank), ONE)


def test_a_frame_is_collected_when_it_has_been_put_together() -> None:
    ledger = gathered()
    arrive(ledger, 0, 1, 2)
    assert not ledger.is_whole()
    ledger.processed("stitch", 0, ONE)
    assert ledger.is_whole()
    assert ledger.totals().collected == 1


def test_a_part_that_never_reached_its_rank_is_named() -> None:
    ledger = gathered()
    arrive(ledger, 0, 2)
    assert missing(ledger) == [("mirror→work", "work", 1, [1])]


def test_a_part_that_stayed_in_its_rank_is_named() -> None:
    ledger = gathered()
    arrive(ledger, 0, 1)
    ledger.received("work", 2, ONE)
    assert missing(ledger) == [("work", "work", 2, [1])]


def test_a_part_that_was_lost_on_the_way_to_the_collector_is_named() -> None:
    ledger = gathered()
    arrive(ledger, 0, 2)
    ledger.processed("work", 1, ONE)
    assert missing(ledger) == [("work→stitch", "work", 1, [1])]


def test_a_frame_of_which_all_parts_came_was_lost_in_the_collector() -> None:
    ledger = gathered()
    arrive(ledger, 0, 1, 2)
    assert missing(ledger) == [("stitch", "stitch", 0, [1])]


@pytest.mark.parametrize("kind", ["dropped", "failed"])
def test_a_frame_without_one_part_has_its_end(kind: str) -> None:
    ledger = gathered()
    arrive(ledger, 0, 2)
    getattr(ledger, kind)("work", 1, ONE)
    assert ledger.is_whole()
    assert getattr(ledger.totals(), kind) == 1


def test_without_a_gatherer_one_output_of_a_set_is_enough() -> None:
    ledger = Ledger([WORK, PoolShape("collect", "collector", "work", ((0,),))], None)
    ledger.processed("work", 0, ONE)
    ledger.dropped("work", 1, ONE)
    ledger.dropped("work", 2, ONE)
    assert not ledger.is_whole()
    ledger.processed("collect", 0, ONE)
    assert ledger.totals().collected == 1


def joined() -> Ledger:
    ledger = Ledger([BOTH, LEFT, RIGHT], "both")
    ledger.source(ONE)
    ledger.mirrored(ONE)
    return ledger


def test_branches_that_join_make_one_frame() -> None:
    ledger = joined()
    ledger.arrived("both", ("left", 1), ONE)
    ledger.arrived("both", ("right", 0), ONE)
    assert not ledger.is_whole()
    ledger.processed("both", 0, ONE)
    assert ledger.is_whole()
    assert (ledger.totals().source, ledger.totals().collected) == (1, 1)


def test_the_branch_that_lost_a_frame_is_named() -> None:
    ledger = joined()
    ledger.arrived("both", ("left", 0), ONE)
    assert missing(ledger) == [("mirror→right", "right", 0, [1])]
    ledger.processed("right", 0, ONE)
    assert missing(ledger) == [("right→both", "right", 0, [1])]


@pytest.mark.parametrize("kind", ["dropped", "failed"])
def test_a_frame_that_ends_on_one_branch_ends(kind: str) -> None:
    ledger = joined()
    ledger.arrived("both", ("left", 0), ONE)
    getattr(ledger, kind)("right", 0, ONE)
    assert ledger.is_whole()
    assert getattr(ledger.totals(), kind) == 1


def test_inputs_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown or form a circle"):
        Ledger([BOTH, LEFT], None)
    with pytest.raises(ValueError, match="no pool 'x'"):
        joined().arrived("x", ("left", 0), ONE)
    with pytest.raises(ValueError, match="no rank 7"):
        joined().arrived("both", ("left", 7), ONE)
