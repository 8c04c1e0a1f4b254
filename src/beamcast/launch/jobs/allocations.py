"""The batch jobs of a run: who sits in which, what the scheduler says of them, and what became of those that ended."""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from beamcast.core.refusals import in_words
from beamcast.launch.jobs.fates import End, Fate, fate_of
from beamcast.launch.jobs.watch import Heard, JobWatch
from beamcast.launch.jobs.words import JobState
from beamcast.launch.start.starter import Starter
from beamcast.launch.start.starts import Generations, OnEnd
from beamcast.observe.report import AllocationReport

logger = logging.getLogger(__name__)

RankKey = tuple[str, int]


@dataclass(slots=True)
class Allocation:
    """One job. Times by the monotonic clock. `why`: how it was lost or given back, once it was."""

    number: int
    job: str
    asked_at: float
    running_at: float | None = None
    over: bool = False
    released: bool = False
    open_starts: int = 0
    why: str = ""
    ends: dict[RankKey, End] = field(default_factory=dict)
    told: set[RankKey] = field(default_factory=set)


class Allocations:
    """All allocations of a run. Under the controller's lock. `queued`: they come from a scheduler, and wait there.
    `silence_s`: when nobody of an allocation was heard for so long, its scheduler is asked."""

    def __init__(self, start: Starter, watch: JobWatch, *, queued: bool, silence_s: float) -> None:
        self._start = start
        self._watch = watch
        self.queued = queued
        self._silence_s = silence_s
        self._all: list[Allocation] = []
        self._seats: dict[RankKey, Allocation] = {}
        # The ranks, with their generations, of allocations that are to be asked for.
        self.wanted: list[dict[RankKey, int]] = []

    def ask(self) -> Allocation:
        """Ask for one more; WorldError when it is refused. Takes seconds; one thread, and not under the lock."""
        now = time.monotonic()
        try:
            number, job = self._start.ask()
        except OSError as error:
            raise in_words(error) from error
        allocation = Allocation(number=number, job=job, asked_at=now)
        self._all.append(allocation)
        if not self.queued:
            allocation.running_at = now
        self._watch.follow(job)
        return allocation

    def start(self, allocation: Allocation, generations: Generations, on_end: OnEnd) -> int:
        """Start ranks there; returns how many starts that were."""
        starts = self._start.start(allocation.number, generations, on_end)
        allocation.open_starts += starts
        return starts

    def seat(self, allocation: Allocation, ranks: Iterable[RankKey]) -> None:
        """From now on these ranks belong to this allocation, and their ends elsewhere mean nothing."""
        for rank in ranks:
            self._seats[rank] = allocation

    @property
    def latest(self) -> Allocation:
        """The one that was asked for last."""
        return self._all[-1]

    @property
    def oldest_in_use(self) -> Allocation:
        """Of those in which ranks sit, the one that ends first."""
        return min(self._seats.values(), key=lambda each: each.number)

    def seat_of(self, rank: RankKey) -> Allocation:
        """The allocation of a rank."""
        return self._seats[rank]

    def heard(self, allocation: Allocation) -> Heard:
        """The scheduler's last word."""
        return self._watch.heard(allocation.job)

    @property
    def open_starts(self) -> int:
        """Starts that have not ended, of the allocations that are not over."""
        return sum(each.open_starts for each in self._all if not each.over and not self.has_ended(each))

    def start_ended(self, number: int) -> None:
        """One of an allocation's starts is over."""
        self._all[number - 1].open_starts -= 1

    @property
    def unsettled(self) -> bool:
        """Whether anything has to be found out: has a job begun, has one ended, what became of a rank."""
        return any(
            not each.over and (each.running_at is None or each.ends or self.has_ended(each))
            for each in self._all
        )

    @property
    def all_over(self) -> bool:
        """Whether the scheduler has ended, or was told to end, every job."""
        return bool(self._all) and all(each.over or self.has_ended(each) for each in self._all)

    def has_ended(self, allocation: Allocation) -> bool:
        """Whether the scheduler says so."""
        return self.heard(allocation).word.state is JobState.ENDED

    def look(self, *, now: float, heard_at: Mapping[RankKey, float]) -> None:
        """Note which jobs have begun: the scheduler says so, or a rank has come from there. And doubt those of which
        nobody is heard any more. `heard_at`: of each rank that has registered."""
        heard: dict[int, float] = {}
        for rank, at in heard_at.items():
            if rank in self._seats:
                number = self._seats[rank].number
                heard[number] = max(at, heard.get(number, at))
        for allocation in self._all:
            word = self.heard(allocation).word
            last = heard.get(allocation.number, 0.0)
            come = last > allocation.asked_at
            if allocation.running_at is None and (word.state is JobState.RUNNING or come):
                allocation.running_at = now
            if come and not allocation.over and now - last > self._silence_s:
                self._doubt(allocation, last)

    def _doubt(self, allocation: Allocation, last: float) -> None:
        """Nobody there is heard any more: the scheduler may know why, and then all have ended."""
        self._watch.soon(allocation.job)
        heard = self.heard(allocation)
        if heard.word.state is JobState.ENDED and heard.asked_at > last:
            for rank in (each for each, seat in self._seats.items() if seat is allocation):
                if rank not in allocation.told:
                    allocation.ends.setdefault(rank, End(at=last, status=None))

    def ended(self, number: int, rank: RankKey, status: int | str | None, *, at: float) -> None:
        """A rank's start has ended there, or (None) it has fallen silent."""
        allocation = self._all[number - 1]
        if allocation.over or rank in allocation.told or self._seats.get(rank) is not allocation:
            return
        before = allocation.ends.get(rank)
        if before is None or before.status is None:
            allocation.ends[rank] = End(at=before.at if before else at, status=status)
        self._watch.soon(allocation.job)

    def returned(self, rank: RankKey) -> None:
        """The rank has come again: there is nothing to find out any more."""
        if rank in self._seats:
            self._seats[rank].ends.pop(rank, None)
            self._seats[rank].told.discard(rank)

    def never_began(self, absent: Iterable[RankKey]) -> None:
        """Jobs that have ended before a rank of theirs came: nobody else would tell."""
        for rank in absent:
            allocation = self._seats[rank]
            known = allocation.over or rank in allocation.told or rank in allocation.ends
            if self.has_ended(allocation) and not known:
                at = self.heard(allocation).asked_at - 1.0
                allocation.ends[rank] = End(at=at, status="its rank never came")

    def fates(self, hosts: dict[RankKey, str], *, now: float) -> list[tuple[RankKey, Fate]]:
        """What is known by now of the ranks that have ended; each is told once."""
        told: list[tuple[RankKey, Fate]] = []
        for allocation in self._all:
            heard = self.heard(allocation)
            for rank, end in tuple(allocation.ends.items()):
                fate = fate_of(end, job=allocation.job, heard=heard, host=hosts.get(rank, ""), now=now)
                if fate is not None:
                    del allocation.ends[rank]
                    allocation.told.add(rank)
                    told.append((rank, fate))
            if allocation.ends:
                self._watch.soon(allocation.job)
        return told

    def give_up(self, numbers: set[int], why: str = "") -> list[RankKey]:
        """These are of no use any more; returns who sits there."""
        for allocation in self._all:
            if allocation.number in numbers:
                allocation.over = True
                allocation.why = why or self._watch.heard(allocation.job).word.why()
                allocation.ends.clear()
        return [rank for rank, allocation in self._seats.items() if allocation.number in numbers]

    def release_given_up(self) -> None:
        """Tell the scheduler. Takes a moment; one thread, and not under the lock."""
        for allocation in self._all:
            if allocation.over and not allocation.released:
                allocation.released = True
                try:
                    self._start.release(allocation.number)
                except Exception:
                    # The batch system's commands fail in many ways, and none of them is a reason to end the run.
                    logger.exception("job %s could not be given back", allocation.job)

    def complaint(self, allocation: Allocation) -> str:
        """The last lines of what the job's script said."""
        return self._start.complaint(allocation.number)

    def report(self, *, now: float) -> tuple[AllocationReport, ...]:
        """For the run's report; nothing where there is no scheduler."""
        return tuple(self._report(each, now) for each in self._all) if self.queued else ()

    def _report(self, allocation: Allocation, now: float) -> AllocationReport:
        word = self.heard(allocation).word
        ended = allocation.over or word.state is JobState.ENDED
        waited = (allocation.running_at or now) - allocation.asked_at
        return AllocationReport(
            number=allocation.number,
            job=allocation.job,
            state="ended" if ended else str(word.state),
            reason=allocation.why or (word.why() if ended else word.reason),
            position=word.position if word.state is JobState.WAITING else None,
            nodes=word.nodes,
            waited_s=round(waited, 3) if ended or allocation.running_at is not None else None,
        )
