"""Whether a rank's end was ours or its allocation's."""

import itertools
import time
from collections.abc import Callable

import pytest

from beamcast.launch.jobs.fates import PATIENCE_S, End, Fate, fate_of
from beamcast.launch.jobs.watch import Heard, JobWatch
from beamcast.launch.jobs.words import JobEnd, JobState, JobWord

RUNNING = JobWord(state=JobState.RUNNING, nodes=("node1", "node2"))
ENDING = JobWord(state=JobState.ENDING)
CANCELLED = JobWord(state=JobState.ENDED, end=JobEnd.CANCELLED)


def judged(
    status: int | str | None,
    word: JobWord,
    *,
    asked: float = 101.0,
    now: float = 101.0,
    silent: tuple[str, ...] = (),
) -> Fate | None:
    heard = Heard(word=word, asked_at=asked, silent_nodes=silent)
    return fate_of(End(at=100.0, status=status), job="3", heard=heard, host="node2.cluster", now=now)


def test_a_job_that_has_ended_explains_everything() -> None:
    for status in (None, -15, "ManagerLost"):
        assert judged(status, CANCELLED) == Fate(True, "job 3 was cancelled")


def test_an_answer_older_than_the_end_explains_nothing() -> None:
    assert judged(1, CANCELLED, asked=99.0) is None
    assert judged(1, RUNNING, asked=99.0) is None
    assert judged(1, RUNNING, asked=99.0, now=100.0 + PATIENCE_S) == Fate(False, "ended with exit status 1")


def test_a_rank_that_fails_in_a_job_that_runs_is_ours() -> None:
    assert judged(1, RUNNING) == Fate(False, "ended with exit status 1")
    assert judged(-11, RUNNING) == Fate(False, "ended by signal 11 (SIGSEGV)")


def test_a_lost_worker_in_a_job_that_runs_is_waited_for_a_little() -> None:
    assert judged("ManagerLost", RUNNING) is None
    late = judged("ManagerLost", RUNNING, now=100.0 + PATIENCE_S)
    assert late == Fate(True, "ManagerLost (the scheduler says that job 3 is running)")


def test_a_node_that_does_not_answer_is_named() -> None:
    assert judged(None, RUNNING, silent=("node2",)) is None, "its link may come back"
    assert judged("ManagerLost", RUNNING, silent=("node2",)) == Fate(
        True, "node node2 does not answer the scheduler any more (job 3)"
    )
    assert judged("ManagerLost", RUNNING, silent=("node1",)) is None


def test_a_job_that_is_being_ended_gets_the_time_to_say_why() -> None:
    assert judged(-15, ENDING) is None
    late = judged(-15, ENDING, now=100.0 + PATIENCE_S)
    assert late == Fate(True, "job 3 is being ended by the scheduler")


class TalkativeScheduler:
    """Answers with what it is given and counts the questions."""

    def __init__(self) -> None:
        self.word = JobWord(state=JobState.WAITING, queue="debug")
        self.asked = self.positions = 0

    def ask(self, job: str) -> JobWord:
        self.asked += 1
        return self.word

    def position(self, job: str, queue: str) -> int | None:
        self.positions += 1
        return 5

    def silent_nodes(self, nodes: object) -> tuple[str, ...]:
        return ("node2",)


def test_a_job_is_asked_about_seldom_and_its_place_more_seldom() -> None:
    scheduler, now = TalkativeScheduler(), 0.0
    watch = JobWatch(scheduler, clock=lambda: now)
    watch.follow("3")
    times = []
    for tenth in range(1200):
        now = tenth / 10
        if watch._due_in("3") <= 0:
            watch._look("3")
            times.append(now)
    assert times[:5] == [0.0, 2.0, 6.0, 14.0, 24.0]
    assert max(late - early for early, late in itertools.pairwise(times)) == 10.0
    assert scheduler.positions == 4
    assert watch.heard("3").word.position == 5


def test_an_answer_that_is_wanted_comes_soon_and_an_ended_job_is_left_alone() -> None:
    scheduler, now = TalkativeScheduler(), 14.0
    watch = JobWatch(scheduler, clock=lambda: now)
    watch.follow("3")
    watch._look("3")
    watch.soon("3")
    now = 14.5
    assert watch._due_in("3") == 0.5
    scheduler.word = RUNNING
    now = 15.0
    watch._look("3")
    assert watch.heard("3").silent_nodes == ("node2",)
    scheduler.word = CANCELLED
    watch._look("3")
    watch.soon("3")
    assert watch._due_in("3") == float("inf")


def test_the_watch_goes_on_when_all_of_its_jobs_have_ended() -> None:
    scheduler = TalkativeScheduler()
    scheduler.word = CANCELLED
    with JobWatch(scheduler) as watch:
        watch.follow("3")
        wait_for(lambda: watch.heard("3").word.is_over)
        scheduler.word = RUNNING
        watch.follow("4")
        wait_for(lambda: watch.heard("4").word is RUNNING)


class BrokenScheduler(TalkativeScheduler):
    """Fails in ways that nobody has thought of."""

    def ask(self, job: str) -> JobWord:
        super().ask(job)
        if self.asked < 3:
            raise AttributeError("'ThreadPoolExecutor' object has no attribute 'job_ids_to_block'")
        return RUNNING


def test_the_watch_outlives_an_answer_of_any_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: its thread died, and no end of a job was known any more."""
    monkeypatch.setattr("beamcast.launch.jobs.watch.FIRST_PERIOD_S", 0.01)
    scheduler = BrokenScheduler()
    with JobWatch(scheduler) as watch:
        watch.follow("3")
        wait_for(lambda: watch.heard("3").word.state is JobState.RUNNING)
    assert scheduler.asked >= 3


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
