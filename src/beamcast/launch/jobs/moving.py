"""A run leaves its allocation before the walltime ends: by draining, or by moving to the next one.

When to do what is decided in `beamcast.launch.jobs.walltime`, here it is done. Under the controller's lock, but for
`ask`.
"""

import logging
import threading

from beamcast.core.errors import WorldError
from beamcast.launch.jobs.allocations import Allocation, Allocations, RankKey
from beamcast.launch.jobs.walltime import Handover, Step, ends_at, next_generations, next_step
from beamcast.launch.plan import RunPlan
from beamcast.launch.roster import Roster
from beamcast.launch.start.starts import OnEnd

logger = logging.getLogger(__name__)


class Moving:
    """Of one run."""

    def __init__(
        self,
        plan: RunPlan,
        roster: Roster,
        allocations: Allocations,
        *,
        lock: threading.RLock,
        on_end: OnEnd,
    ) -> None:
        """`on_end` is told of each start in the next allocation that ends."""
        self._plan = plan
        self._roster = roster
        self._allocations = allocations
        self._lock = lock
        self._on_end = on_end
        self._may_ask = True
        self._handover: Handover | None = None

    def leaves(self, allocation: Allocation) -> bool:
        """Whether its ranks are to come again in the next one."""
        return self._handover is not None and allocation is self._handover.old

    def rank_comes(self, key: RankKey, generation: int) -> None:
        """A rank registers; with the last one that has moved the old allocation is given back."""
        handover = self._handover
        if handover is None or handover.new is None or not handover.moves(key, generation):
            return
        self._allocations.seat(handover.new, [key])
        if handover.done:
            logger.info("all ranks have moved to allocation %d", handover.new.number)
            self._allocations.give_up({handover.old.number}, "was handed over")
            self._handover = None

    def look(self, now: float) -> str:
        """Why the stream is to end now, or "". WorldError when the allocation to move to has ended, and there is no way
        back."""
        allocations, config = self._allocations, self._plan.site.allocation
        if not allocations.queued:
            return ""
        self._check()
        current = allocations.oldest_in_use
        heard = allocations.heard(current)
        end = ends_at(
            current,
            walltime_s=float(config.walltime),
            left_s=heard.word.time_left_s,
            asked_at=heard.asked_at,
        )
        waits = self._handover is not None
        match next_step(config, end=end, now=now, may_ask=self._may_ask, waits=waits):
            case Step.ASK:
                self._begin(current)
            case Step.LEAVE:
                return f"the walltime of job {current.job} is about to end"
        return ""

    def ask(self) -> None:
        """Ask for the allocation that all ranks are to move to. Takes seconds, so not under the lock: heartbeats go on.
        Refused, the run drains in time."""
        handover = self._handover
        if handover is None or handover.new is not None:
            return
        try:
            new = self._allocations.ask()
        except WorldError as refusal:
            logger.warning("there is nothing to hand over to: %s", refusal)
            with self._lock:
                self._may_ask, self._handover = False, None
            return
        with self._lock:
            handover.new = new
            self._allocations.start(new, handover.generations, self._on_end)

    def _check(self) -> None:
        """The allocation to move to may end before anybody has come there."""
        handover, allocations = self._handover, self._allocations
        if handover is None or handover.new is None or not allocations.has_ended(handover.new):
            return
        why = f"job {handover.new.job}, to which the run was to be handed over, "
        why += allocations.heard(handover.new).word.why()
        if handover.moved or allocations.has_ended(handover.old):
            raise WorldError(why)
        logger.warning("%s", why)
        self._may_ask, self._handover = False, None

    def _begin(self, old: Allocation) -> None:
        every = [record.identity for records in self._roster.ranks.values() for record in records]
        generations = next_generations(
            {(one.pool, one.rank): one.generation for one in every},
            {pool.name: pool.restart.max_restarts for pool in self._plan.pools},
        )
        logger.info("the walltime of job %s is about to end: the next allocation is asked for", old.job)
        self._handover = Handover(old=old, generations=generations)
