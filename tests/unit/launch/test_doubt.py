"""When a scheduler is asked about an allocation, and what is made of its answer."""

import time
from collections.abc import Callable

from beamcast.launch.doubt import Doubts

RANKS = {"0": frozenset({("work", 0), ("work", 1)}), "1": frozenset({("work", 2)})}


class Scheduler:
    """Answers what it is told to, and counts the questions."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, name: str) -> str | None:
        self.asked.append(name)
        if self.answers.get(name) == "error":
            raise OSError("squeue is not there")
        return self.answers.get(name)


def heard(**at: float) -> dict[tuple[str, int], float]:
    return {("work", int(name[1:])): when for name, when in at.items()}


def until(look: Callable[[], dict[str, str]]) -> dict[str, str]:
    """The question is asked on another thread: look until its answer is there."""
    deadline = time.monotonic() + 5
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def test_one_rank_that_speaks_is_enough() -> None:
    scheduler = Scheduler(**{"0": "ended"})
    with Doubts(scheduler, silence_s=2, again_s=10) as doubts:
        assert doubts.look(RANKS, heard(r0=0, r1=99, r2=99), now=100) == {}
        assert scheduler.asked == []


def test_an_allocation_that_nobody_has_registered_from_is_not_doubted() -> None:
    scheduler = Scheduler(**{"0": "ended"})
    with Doubts(scheduler, silence_s=2, again_s=10) as doubts:
        assert doubts.look(RANKS, {}, now=100) == {}
        assert scheduler.asked == []


def test_the_silent_allocation_alone_is_asked_about_and_its_end_is_told() -> None:
    scheduler = Scheduler(**{"0": "cancelled", "1": "cancelled"})
    with Doubts(scheduler, silence_s=2, again_s=10) as doubts:
        found = until(lambda: doubts.look(RANKS, heard(r0=90, r1=91, r2=99), now=100))
        assert found == {"0": "cancelled"}
        assert scheduler.asked == ["0"]


def test_a_running_job_is_asked_about_again_only_after_a_while() -> None:
    scheduler = Scheduler()
    with Doubts(scheduler, silence_s=2, again_s=10) as doubts:
        doubts.look(RANKS, heard(r0=90, r2=100), now=100)
        while not scheduler.asked:
            time.sleep(0.005)
        for now in (101, 105, 109):
            assert doubts.look(RANKS, heard(r0=90, r2=109), now=now) == {}
        assert scheduler.asked == ["0"]
        scheduler.answers["0"] = "failed"
        assert until(lambda: doubts.look(RANKS, heard(r0=90, r2=111), now=111)) == {"0": "failed"}


def test_a_scheduler_that_cannot_be_asked_is_no_death() -> None:
    scheduler = Scheduler(**{"0": "error"})
    with Doubts(scheduler, silence_s=2, again_s=0.0) as doubts:
        deadline = time.monotonic() + 5
        now = 100.0
        while len(scheduler.asked) < 2:
            now += 1
            assert doubts.look(RANKS, heard(r0=90, r2=now), now=now) == {}
            assert time.monotonic() < deadline
            time.sleep(0.005)
