"""Who sits in which allocation, and what is told of those that end."""

from collections.abc import Callable

from beamcast.launch.jobs.allocations import Allocations
from beamcast.launch.jobs.watch import Heard
from beamcast.launch.jobs.words import JobEnd, JobState, JobWord

RANKS = {("work", 0): 0, ("work", 1): 0}
CANCELLED = JobWord(state=JobState.ENDED, end=JobEnd.CANCELLED)


class Starts:
    """Asks for allocations and starts ranks, on paper."""

    def __init__(self) -> None:
        self.asked = 0
        self.released: list[int] = []

    def ask(self) -> tuple[int, str]:
        self.asked += 1
        return self.asked, str(100 + self.asked)

    def start(self, allocation: int, generations: object, on_end: Callable[..., None]) -> int:
        return 2

    def release(self, allocation: int) -> None:
        self.released.append(allocation)


class Words:
    """A watch whose words the test writes."""

    def __init__(self) -> None:
        self.words: dict[str, Heard] = {}
        self.wanted: list[str] = []

    def follow(self, job: str) -> None:
        self.words[job] = Heard()

    def heard(self, job: str) -> Heard:
        return self.words[job]

    def soon(self, job: str) -> None:
        self.wanted.append(job)


def begun() -> tuple[Allocations, Words, Starts]:
    starts, words = Starts(), Words()
    # What is used of them is here.
    allocations = Allocations(starts, words, queued=True, silence_s=2.0)  # type: ignore[arg-type]
    allocations.seat(allocations.ask(), RANKS)
    return allocations, words, starts


def test_an_end_is_told_once_when_the_scheduler_has_said_why() -> None:
    allocations, words, _ = begun()
    allocations.ended(1, ("work", 0), None, at=10.0)
    assert words.wanted == ["101"]
    assert allocations.fates({}, now=10.5) == []
    words.words["101"] = Heard(word=CANCELLED, asked_at=11.0)
    ((rank, fate),) = allocations.fates({}, now=11.0)
    assert (rank, fate.why) == (("work", 0), "job 101 was cancelled")
    allocations.never_began([("work", 0)])
    allocations.ended(1, ("work", 0), "ManagerLost", at=20.0)
    assert allocations.fates({}, now=30.0) == []


def test_ranks_that_never_came_end_with_their_job() -> None:
    allocations, words, _ = begun()
    allocations.never_began(RANKS)
    assert allocations.fates({}, now=5.0) == []
    words.words["101"] = Heard(word=CANCELLED, asked_at=6.0)
    allocations.never_began(RANKS)
    assert [rank for rank, _ in allocations.fates({}, now=6.0)] == list(RANKS)


def test_a_rank_that_has_moved_does_not_end_with_its_old_allocation() -> None:
    allocations, words, starts = begun()
    second = allocations.ask()
    allocations.seat(second, [("work", 0)])
    words.words["101"] = Heard(word=CANCELLED, asked_at=11.0)
    allocations.ended(1, ("work", 0), 0, at=10.0)
    allocations.ended(1, ("work", 1), 0, at=10.0)
    assert [rank for rank, _ in allocations.fates({}, now=11.0)] == [("work", 1)]
    assert allocations.give_up({1}, "moved on") == [("work", 1)]
    allocations.release_given_up()
    allocations.release_given_up()
    assert starts.released == [1]
    assert [(each.job, each.state, each.reason) for each in allocations.report(now=12.0)] == [
        ("101", "ended", "moved on"),
        ("102", "unknown", ""),
    ]


def test_a_rank_that_comes_again_may_end_again() -> None:
    allocations, words, _ = begun()
    allocations.ended(1, ("work", 0), None, at=10.0)
    allocations.returned(("work", 0))
    words.words["101"] = Heard(word=CANCELLED, asked_at=11.0)
    assert allocations.fates({}, now=11.0) == []
    allocations.ended(1, ("work", 0), -9, at=10.5)
    assert [rank for rank, _ in allocations.fates({}, now=11.0)] == [("work", 0)]


def test_an_allocation_that_is_silent_as_a_whole_is_asked_about() -> None:
    allocations, words, _ = begun()
    first = allocations.latest
    heard_at = dict.fromkeys(RANKS, first.asked_at + 10.0)
    allocations.look(now=first.asked_at + 11.0, heard_at=heard_at)
    assert (words.wanted, first.running_at) == ([], first.asked_at + 11.0)
    allocations.look(now=first.asked_at + 12.5, heard_at=heard_at)
    assert words.wanted == ["101"]
    assert allocations.fates({}, now=first.asked_at + 12.5) == []
    words.words["101"] = Heard(word=CANCELLED, asked_at=first.asked_at + 12.6)
    allocations.look(now=first.asked_at + 12.7, heard_at=heard_at)
    told = allocations.fates({}, now=first.asked_at + 12.7)
    assert sorted(rank for rank, _ in told) == sorted(RANKS), (
        "all at once, before the silence makes them dead"
    )


def test_one_that_is_heard_keeps_its_allocation_from_doubt() -> None:
    allocations, words, _ = begun()
    began = allocations.latest.asked_at
    heard_at = {("work", 0): began + 1.0, ("work", 1): began + 60.0}
    allocations.look(now=began + 61.0, heard_at=heard_at)
    assert words.wanted == []
