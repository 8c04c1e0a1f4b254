"""Leaving an allocation before its walltime ends."""

from beamcast.config.site import Allocation as AllocationConfig
from beamcast.config.units import Seconds
from beamcast.launch.jobs.allocations import Allocation
from beamcast.launch.jobs.walltime import CLOCK_SLACK_S, Handover, Step, ends_at, next_generations, next_step

PLAIN = AllocationConfig(walltime=Seconds(600.0), margin=Seconds(60.0))
HANDS_OVER = AllocationConfig(
    walltime=Seconds(600.0), margin=Seconds(60.0), handover=True, handover_lead=Seconds(120.0)
)


def allocation(number: int = 1, *, running_at: float | None = 100.0) -> Allocation:
    return Allocation(number=number, job=str(number), asked_at=50.0, running_at=running_at)


def test_the_walltime_counts_from_the_begin_of_the_job() -> None:
    assert ends_at(allocation(), walltime_s=600.0, left_s=None, asked_at=0.0) == 700.0 - CLOCK_SLACK_S
    assert ends_at(allocation(running_at=None), walltime_s=600.0, left_s=None, asked_at=0.0) is None


def test_a_scheduler_that_gives_less_is_believed() -> None:
    assert ends_at(allocation(), walltime_s=600.0, left_s=90.0, asked_at=200.0) == 290.0
    assert ends_at(allocation(), walltime_s=600.0, left_s=9000.0, asked_at=200.0) == 700.0 - CLOCK_SLACK_S


def test_a_run_that_does_not_hand_over_leaves_in_time() -> None:
    def step(now: float) -> Step:
        return next_step(PLAIN, end=700.0, now=now, may_ask=True, waits=False)

    assert [step(639.9), step(640.0)] == [Step.STAY, Step.LEAVE]
    assert next_step(PLAIN, end=None, now=9e9, may_ask=True, waits=False) is Step.STAY


def test_the_next_allocation_is_asked_for_early_and_once() -> None:
    def step(now: float, *, may_ask: bool = True, waits: bool = False) -> Step:
        return next_step(HANDS_OVER, end=700.0, now=now, may_ask=may_ask, waits=waits)

    assert [step(519.9), step(520.0)] == [Step.STAY, Step.ASK]
    assert [step(now, waits=True) for now in (520.0, 640.0, 800.0)] == [Step.STAY] * 3
    assert [step(now, may_ask=False) for now in (520.0, 640.0)] == [Step.STAY, Step.LEAVE]


def test_new_generations_are_above_all_that_the_old_keepers_may_start() -> None:
    ranks = {("a", 0): 0, ("a", 1): 2, ("b", 0): 0}
    assert next_generations(ranks, {"a": 3, "b": 0}) == {("a", 0): 6, ("a", 1): 6, ("b", 0): 1}


def test_a_hand_over_is_done_when_all_have_come() -> None:
    handover = Handover(old=allocation(), generations={("a", 0): 4, ("a", 1): 4})
    assert not handover.moves(("a", 0), 4), "nobody can come before there is somewhere to come from"
    handover.new = allocation(2)
    assert not handover.moves(("a", 0), 1), "one that its old keeper has started again"
    assert handover.moves(("a", 0), 4)
    assert not handover.done
    assert handover.moves(("a", 1), 5)
    assert handover.done
