"""Life-cycle tables."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.core.lifecycle import (
    RANK_MOVES,
    RUN_MOVES,
    IllegalMove,
    RankEvent,
    RankLifecycle,
    RankState,
    RunEvent,
    RunLifecycle,
    RunState,
)

GOOD_RUN = [
    (RunEvent.QUEUED, RunState.QUEUED),
    (RunEvent.ALLOCATED, RunState.STARTING),
    (RunEvent.ALL_READY, RunState.READY),
    (RunEvent.FIRST_FRAME, RunState.STREAMING),
    (RunEvent.END_OF_STREAM, RunState.DRAINING),
    (RunEvent.DRAINED, RunState.DONE),
]
GOOD_RANK = [
    (RankEvent.REGISTER, RankState.REGISTERED),
    (RankEvent.CONNECT, RankState.CONNECTED),
    (RankEvent.PROBE, RankState.READY),
    (RankEvent.FRAME, RankState.RUNNING),
    (RankEvent.FINISH, RankState.FINISHED),
]


def test_a_run_that_goes_well() -> None:
    run = RunLifecycle()
    assert run.state is RunState.SUBMITTED
    for at, (event, state) in enumerate(GOOD_RUN):
        assert run.on(event, at=float(at)) is state
    assert [(step.event, step.state) for step in run.history] == GOOD_RUN
    assert [step.at for step in run.history] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert run.state.is_final


def test_a_rank_that_goes_well() -> None:
    rank = RankLifecycle()
    for event, state in GOOD_RANK:
        assert rank.on(event, at=1.0) is state
    assert rank.generation == 0
    assert not rank.state.is_live


def test_a_restarted_rank_begins_again() -> None:
    rank = RankLifecycle()
    rank.on(RankEvent.REGISTER, at=1.0)
    rank.on(RankEvent.DIE, at=2.0, reason="silent for 5 s")
    assert rank.on(RankEvent.RESTART, at=3.0) is RankState.EXPECTED
    assert rank.generation == 1
    rank.on(RankEvent.REGISTER, at=4.0)
    assert rank.state.is_live
    assert len(rank.history) == 4


@pytest.mark.parametrize("event", [RunEvent.FAIL, RunEvent.CANCEL])
@pytest.mark.parametrize("steps", range(len(GOOD_RUN)))
def test_a_run_can_end_early_but_says_why(event: RunEvent, steps: int) -> None:
    run = RunLifecycle()
    for each, _ in GOOD_RUN[:steps]:
        run.on(each, at=0.0)
    with pytest.raises(ValueError, match="reason"):
        run.on(event, at=1.0)
    assert run.on(event, at=1.0, reason="walltime") in (RunState.FAILED, RunState.CANCELLED)
    assert run.history[-1].reason == "walltime"


def test_an_illegal_move_shows_the_history() -> None:
    run = RunLifecycle()
    run.on(RunEvent.QUEUED, at=1.5)
    with pytest.raises(
        IllegalMove, match=r"'drained' can't happen in state 'queued' \(history: 1.500 s queued"
    ) as info:
        run.on(RunEvent.DRAINED, at=2.0)
    assert run.state is RunState.QUEUED
    assert str(pickle.loads(pickle.dumps(info.value))) == str(info.value)


@given(st.lists(st.sampled_from(RunEvent)))
def test_a_run_follows_its_table_whatever_comes(events: list[RunEvent]) -> None:
    run = RunLifecycle()
    for event in events:
        before, moves = run.state, len(run.history)
        expected = RUN_MOVES.get((before, event))
        if expected is None:
            with pytest.raises(IllegalMove):
                run.on(event, at=0.0, reason="why")
            assert (run.state, len(run.history)) == (before, moves)
        else:
            assert run.on(event, at=0.0, reason="why") is run.state is expected


@given(st.lists(st.sampled_from(RankEvent)))
def test_a_rank_follows_its_table_whatever_comes(events: list[RankEvent]) -> None:
    rank = RankLifecycle()
    restarts = 0
    for event in events:
        expected = RANK_MOVES.get((rank.state, event))
        if expected is None:
            with pytest.raises(IllegalMove):
                rank.on(event, at=0.0, reason="why")
        else:
            restarts += event is RankEvent.RESTART
            assert rank.on(event, at=0.0, reason="why") is expected
        assert rank.generation == restarts


def test_final_states_have_no_way_out() -> None:
    assert not [move for move in RUN_MOVES if move[0].is_final]
    assert {state for state in RunState if not any(state is move[0] for move in RUN_MOVES)} == {
        RunState.DONE,
        RunState.FAILED,
        RunState.CANCELLED,
    }
