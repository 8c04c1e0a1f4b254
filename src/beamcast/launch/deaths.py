"""What follows when a member dies or falls silent: it is started again, its allocation is replaced, or the run ends.

Under the controller's lock. What can't be mended is raised, and the run fails with it.
"""

import logging
from pathlib import Path

from beamcast.core.errors import BeamcastError, UsageError, WorldError
from beamcast.core.last_words import last_words
from beamcast.core.lifecycle import RankState
from beamcast.launch.children import Children
from beamcast.launch.jobs.allocations import Allocations, RankKey
from beamcast.launch.jobs.fates import Fate
from beamcast.launch.jobs.moving import Moving
from beamcast.launch.jobs.walltime import next_generations
from beamcast.launch.network.directory import Directory
from beamcast.launch.plan import RunPlan
from beamcast.launch.roster import MemberRecord, Roster
from beamcast.members.host.exits import end_in_words
from beamcast.pva.messages import Registration

logger = logging.getLogger(__name__)

LOG_TAIL_LINES = 15
# A crash of the interpreter is followed by the lines of all threads.
LOG_WORDS_LINES = 100
# The ends of an allocation's workers come within moments; one more allocation is to be for all of them.
ALLOCATION_SETTLE_S = 1.0


class Deaths:
    """Of one run. `begin` before allocations can be lost."""

    def __init__(
        self, plan: RunPlan, roster: Roster, children: Children, names: Directory, *, logs: Path
    ) -> None:
        self._plan = plan
        self._roster = roster
        self._children = children
        self._names = names
        self._logs = logs
        self._allocations: Allocations | None = None
        self._moving: Moving | None = None
        self._replacements = plan.site.allocation.replacements
        self._without_allocation: list[MemberRecord] = []
        self._lost_at = 0.0

    def begin(self, allocations: Allocations, moving: Moving) -> None:
        """From now on there are allocations."""
        self._allocations, self._moving = allocations, moving

    def look(self, now: float) -> None:
        """Whoever has died since the last look. WorldError or UsageError where the run can't go on."""
        for record in self._roster.silent(now=now, silence_s=float(self._plan.workflow.deadlines.silence)):
            self._fell_silent(record, now)
        for name, code in self._children.ended():
            self._child_ended(self._roster.members[name], now, code)
        self._settle_ends(now)
        for record in self._roster.problems():
            self._member_failed(record)
        if self._without_allocation and now - self._lost_at > ALLOCATION_SETTLE_S:
            self._replace_allocation(now)

    def died(self, record: MemberRecord, now: float, reason: str, *, only_silent: bool = False) -> None:
        """A member is no more. WorldError when it is none that may die."""
        logger.warning("%s died: %s", record.identity, reason)
        self._forget(record)
        self._roster.died(record, now=now, reason=reason, only_silent=only_silent)
        if record.identity.kind != "rank":
            raise WorldError(
                f"the {record.identity} died: {self._told(record, reason)}",
                hint=f"its log is {self._log_of(record)}",
            )

    def replaced(self, record: MemberRecord, request: Registration, now: float) -> None:
        """The next process of a member registers: the one before has ended, and whoever kept it knows how."""
        generation = request.member.generation
        if generation <= record.identity.generation:
            return
        how = "" if request.before is None else f"its process {end_in_words(request.before)}"
        if record.live:
            known = how or "how its process ended is not known"
            self.died(record, now, f"{known}; generation {generation} has taken its place")
        elif how and record.deaths:
            record.deaths[-1] += f"; {how}"

    @property
    def some_come_back(self) -> bool:
        """Whether dead members are being started again. That the others have nothing in hand says little then."""
        live = sum(record.live for ranks in self._roster.ranks.values() for record in ranks)
        starts = self._allocations.open_starts if self._allocations is not None else 0
        wanted = bool(self._allocations is not None and self._allocations.wanted)
        beside = any(self._comes_back(one) and not one.usable for one in self._roster.members.values())
        return beside or bool(self._without_allocation) or wanted or starts > live

    # -- members beside the controller -----------------------------------------------------------------------------

    def _fell_silent(self, record: MemberRecord, now: float) -> None:
        """Why a rank did is for the scheduler to say, if its starter does not."""
        if self._comes_back(record):
            self._children.kill(str(record.identity))
            return
        silence_s = float(self._plan.workflow.deadlines.silence)
        self.died(record, now, f"no heartbeat for {silence_s:g} s", only_silent=True)
        if record.identity.kind == "rank" and self._allocations is not None:
            self._allocations.ended(
                self._allocations.seat_of(_key(record)).number, _key(record), None, at=now
            )

    def _comes_back(self, record: MemberRecord) -> bool:
        """Whether the member may be started again beside us: its successor finds what it has to know on disk, or needs
        nothing."""
        return record.identity.kind in ("mirror", "results", "metadata", "intake")

    def _child_ended(self, record: MemberRecord, now: float, status: int) -> None:
        if record.life.state in (RankState.DEAD, RankState.FINISHED, RankState.FAILED):
            return
        name, reason = str(record.identity), f"its process {end_in_words(status)}"
        # pvaccess can abort while it connects for the first time; nothing is lost with a process so young.
        young = status < 0 and not self._roster.was_ready
        if not young and not (self._comes_back(record) and self._roster.was_ready):
            self.died(record, now, reason)
        generation = record.identity.generation + (not young)
        if not self._children.restart(name, generation=generation, now=now):
            self.died(record, now, f"{reason}, too often within a minute")
        logger.warning("the %s %s, started again", name, end_in_words(status))
        self._forget(record)
        self._roster.died(record, now=now, reason=reason)

    # -- ranks and their allocations -------------------------------------------------------------------------------

    def _settle_ends(self, now: float) -> None:
        """What became of the ranks that have ended."""
        if self._allocations is None:
            return
        self._allocations.look(now=now, heard_at=self._roster.heard_at())
        if not self._allocations.unsettled:
            return
        ranks = {_key(record): record for records in self._roster.ranks.values() for record in records}
        self._allocations.never_began(
            key for key, each in ranks.items() if not each.live and each.state != "finished"
        )
        hosts = {key: each.whereabouts.host for key, each in ranks.items() if each.whereabouts is not None}
        for key, fate in self._allocations.fates(hosts, now=now):
            self._start_is_over(ranks[key], now, fate)

    def _start_is_over(self, record: MemberRecord, now: float, fate: Fate) -> None:
        if record.life.state in (RankState.FINISHED, RankState.FAILED) or record.leaving:
            return
        if fate.allocation_lost:
            self._allocation_lost(record, now, fate)
            return
        record.given_up = True
        self.died(record, now, f"its process {fate.why}, and is not restarted again")
        if self._ends_run(record):
            told = self._told(record, f"its process {fate.why}")
            raise WorldError(
                f"rank {record.identity} died and is not restarted again: {told}",
                hint=f"its log is {self._log_of(record)}",
            )

    def _ends_run(self, record: MemberRecord) -> bool:
        pool = self._plan.pool(record.identity.pool)
        return pool.restart.on_exhausted == "fail-run" or not self._roster.was_ready

    def _allocation_lost(self, record: MemberRecord, now: float, fate: Fate) -> None:
        """Its rank gets another one, if there is one left to ask for."""
        assert self._allocations is not None
        assert self._moving is not None
        allocation = self._allocations.seat_of(_key(record))
        self.died(record, now, f"its allocation is gone: {fate.why}")
        if self._moving.leaves(allocation):
            return  # it is to come again in the next allocation, whenever that begins
        if self._replacements or self._without_allocation:
            self._without_allocation.append(record)
            self._wait_for_next(record)
            self._lost_at = now
            return
        if self._ends_run(record):
            said = self._allocations.complaint(allocation)
            raise WorldError(
                f"rank {record.identity} died with its allocation: {fate.why}"
                + (f"\n{said}" if said else ""),
                hint="`replacements` under [allocation] in the site file asks for another one",
            )

    def _wait_for_next(self, record: MemberRecord) -> None:
        """Whoever still starts it in its old allocation is not to be taken for the one that is on its way."""
        ranks = {_key(one): one.identity.generation for one in self._roster.ranks[record.identity.pool]}
        restarts = {pool.name: pool.restart.max_restarts for pool in self._plan.pools}
        record.least_generation = next_generations(ranks, restarts)[_key(record)]

    def _replace_allocation(self, now: float) -> None:
        """The ranks that have lost their allocation get another one, and so do those that sat beside them: a job that
        has lost a part of itself is about to end."""
        assert self._allocations is not None
        lost, self._without_allocation = self._without_allocation, []
        self._replacements -= 1
        for record in self._beside(lost):
            self.died(record, now, "its allocation is given up, since a part of it was lost")
            self._wait_for_next(record)
            lost.append(record)
        logger.warning("another allocation is asked for, for %d ranks", len(lost))
        # One for one: the seats of those that sat together fit together.
        together: dict[int, dict[RankKey, int]] = {}
        for record in lost:
            seat = self._allocations.seat_of(_key(record)).number
            together.setdefault(seat, {})[_key(record)] = record.least_generation
        self._allocations.wanted.extend(together.values())

    def _beside(self, lost: list[MemberRecord]) -> list[MemberRecord]:
        """The other ranks of the same allocations, which are given up."""
        assert self._allocations is not None
        keys = [_key(record) for record in lost]
        beside = self._allocations.give_up({self._allocations.seat_of(key).number for key in keys})
        records = [self._roster.ranks[pool][rank] for pool, rank in beside if (pool, rank) not in keys]
        return [record for record in records if record.state != "finished"]

    # -- what is said of it ----------------------------------------------------------------------------------------

    def _forget(self, record: MemberRecord) -> None:
        """Nobody shall be sent to where it was: a client that tried in vain waits long before it asks again."""
        self._names.forget(list(record.serves))

    def _member_failed(self, record: MemberRecord) -> None:
        message = f"{record.identity}: {record.problem}"
        kind = UsageError if record.problem_kind == "usage" else WorldError
        error: BeamcastError = kind(message, hint=f"its log is {self._log_of(record)}")
        if record.problem_detail:
            error.add_note(record.problem_detail)
        raise error

    def _log_of(self, record: MemberRecord) -> Path:
        return self._logs / f"{str(record.identity).replace('/', '-')}.log"

    def _told(self, record: MemberRecord, reason: str) -> str:
        """Why it died: in its own words where its log has some, else with the end of its log."""
        try:
            lines = self._log_of(record).read_text(errors="replace", encoding="utf-8").splitlines()
        except OSError:
            return reason
        words = last_words("\n".join(lines[-LOG_WORDS_LINES:]))
        if words:
            return f"{words} ({reason})"
        return "\n  ".join([reason, *lines[-LOG_TAIL_LINES:]])


def _key(record: MemberRecord) -> RankKey:
    return record.identity.pool, record.identity.rank
