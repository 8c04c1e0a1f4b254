"""Ranks join the distribution in the order of ranks; to ask whose turn it is stays cheap with thousands."""

import pytest

from beamcast.config.workflow import Distribution, Pool
from beamcast.launch.turn import MOST_IN_ORDER, Turns, takes_turns


class Ranks:
    """Ranks of pools `a` and `b` that become usable; counts how often it is asked."""

    def __init__(self, size: int) -> None:
        self.usable: set[tuple[str, int]] = set()
        self.asked = 0
        self.turns = Turns({"a": size, "b": size}, self.is_usable)

    def is_usable(self, pool: str, rank: int) -> bool:
        self.asked += 1
        return (pool, rank) in self.usable


def test_one_after_the_other() -> None:
    ranks = Ranks(3)
    assert [ranks.turns.may_connect("a", rank, after=()) for rank in range(3)] == [True, False, False]
    ranks.usable.add(("a", 0))
    assert [ranks.turns.may_connect("a", rank, after=()) for rank in range(3)] == [True, True, False]


def test_a_pool_waits_for_those_before_it() -> None:
    ranks = Ranks(2)
    assert not ranks.turns.may_connect("b", 0, after=("a",))
    ranks.usable |= {("a", 0), ("a", 1)}
    assert ranks.turns.may_connect("b", 0, after=("a",))


def test_a_rank_that_dies_before_the_run_is_ready_holds_up_those_behind_it() -> None:
    ranks = Ranks(4)
    ranks.usable |= {("a", 0), ("a", 1), ("a", 2)}
    assert ranks.turns.may_connect("a", 3, after=())
    ranks.usable.remove(("a", 1))
    ranks.turns.back_to("a", 1)
    assert not ranks.turns.may_connect("a", 3, after=())
    assert ranks.turns.may_connect("a", 1, after=())


def test_the_next_in_line_ask_often() -> None:
    turns = Ranks(4096).turns
    periods = [turns.heartbeat_s("a", rank, otherwise=2.0) for rank in (0, 3, 4, 63, 64, 4095)]
    assert periods == [0.01, 0.01, 0.1, 0.1, 2.0, 2.0]


def test_a_question_costs_the_same_for_the_last_of_4096() -> None:
    ranks = Ranks(4096)
    for rank in range(4096):
        assert ranks.turns.may_connect("a", rank, after=())
        ranks.usable.add(("a", rank))
    assert ranks.asked < 3 * 4096


@pytest.mark.parametrize(
    ("role", "policy", "ranks", "dispatched", "expected"),
    [
        ("consumer", "each", MOST_IN_ORDER, False, True),
        ("consumer", "each", MOST_IN_ORDER + 1, False, False),
        ("consumer", "per-node", 4096, False, True),
        ("consumer", "all", 2, False, False),
        ("consumer", "per-node", 2, True, False),
        ("collector", "each", 2, False, False),
    ],
)
def test_who_takes_turns(role: str, policy: str, ranks: int, dispatched: bool, expected: bool) -> None:
    distribution = Distribution(policy=policy)  # type: ignore[arg-type]
    pool = Pool(name="p", role=role, input="source", ranks=ranks, distribution=distribution)  # type: ignore[arg-type]
    assert takes_turns(pool, dispatched=dispatched) is expected
