"""Frames that travel together: so many in a row to one rank, and no more than it may hold."""

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from beamcast.core.dispatch import Dispatcher, RetryRules
from beamcast.core.dispatch_protocol import Ack, Action, Send
from beamcast.core.replay import ReplayLimits

SIZE = 10


def dispatcher(*, turn: int, ranks: int, window: int) -> Dispatcher:
    made = Dispatcher(ReplayLimits(max_bytes=SIZE * 10_000), RetryRules(), turn_frames=turn)
    for rank in range(ranks):
        made.rank_joined(rank, 0, window_frames=window, window_bytes=SIZE * 10_000)
    return made


def targets(actions: list[Action]) -> list[int]:
    return [action.rank for action in actions if isinstance(action, Send)]


def send(made: Dispatcher, first: int, count: int) -> list[int]:
    return [rank for key in range(first, first + count) for rank in targets(made.frame(key, SIZE))]


def test_each_rank_gets_a_whole_turn():
    assert send(dispatcher(turn=4, ranks=3, window=8), 1, 12) == [0] * 4 + [1] * 4 + [2] * 4


def test_a_turn_that_is_ended_early_goes_on_elsewhere():
    made = dispatcher(turn=4, ranks=2, window=8)
    assert send(made, 1, 2) == [0, 0]
    made.end_turn()
    assert send(made, 3, 1) == [1]


def test_no_turn_begins_at_a_rank_without_room_for_all_of_it():
    made = dispatcher(turn=4, ranks=1, window=8)
    assert len(send(made, 1, 20)) == 8
    assert targets(made.ack(Ack(0, 0, 1, processed=[1, 2, 3]), now=0.0)) == []
    assert targets(made.ack(Ack(0, 0, 2, processed=[4]), now=0.0)) == [0] * 4


def test_a_rank_that_dies_in_its_turn_gives_everything_to_the_next():
    made = dispatcher(turn=4, ranks=2, window=8)
    assert send(made, 1, 2) == [0, 0]
    assert targets(made.rank_died(0, 0)) == [1, 1]
    assert send(made, 3, 2) == [1, 1]


def test_a_window_narrower_than_a_turn_is_kept():
    made = dispatcher(turn=16, ranks=2, window=5)
    assert send(made, 1, 30) == [0] * 5 + [1] * 5


@given(
    turn=st.integers(1, 9),
    ranks=st.integers(1, 4),
    window=st.integers(1, 30),
    acks=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 12)), max_size=40),
)
def test_stacks_are_whole_under_load(turn, ranks, window, acks):
    """While more waits than the ranks take, every turn is as long as it may be, whatever they ack."""
    made = dispatcher(turn=turn, ranks=ranks, window=window)
    inside: list[list[int]] = [[] for _ in range(ranks)]
    for key in range(1, 500):
        for action in made.frame(key, SIZE):
            assert isinstance(action, Send)
            inside[action.rank].append(action.key)
    for serial, (number, count) in enumerate(acks, 1):
        rank = number % ranks
        done, inside[rank] = inside[rank][:count], inside[rank][count:]
        made.end_turn()
        actions = made.ack(Ack(rank, 0, serial, processed=done), now=0.0)
        for target, run in groupby(targets(actions)):
            frames = len(list(run))
            assert frames % min(turn, window) == 0 or frames == window - len(inside[target])
        for action in actions:
            assert isinstance(action, Send)
            inside[action.rank].append(action.key)
        assert all(len(each) <= window for each in inside)
