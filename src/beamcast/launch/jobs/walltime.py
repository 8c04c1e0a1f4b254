"""What to do about the end of an allocation's walltime: leave in time, or hand over to the next one. Pure.

An allocation that is handed over is asked for early, since nobody knows how long it will wait in the queue; ranks move
when it is there, and the old one is given back then. Where it comes too late, the old one is used to its end, and its
ranks find the new one when it comes: at-least-once delivery keeps their frames meanwhile.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from beamcast.config.site import Allocation as AllocationConfig
from beamcast.launch.jobs.allocations import Allocation, RankKey

# The scheduler's clock and ours need not agree, and a job begins some moments before we hear of it.
CLOCK_SLACK_S = 5.0


class Step(StrEnum):
    """What is to be done now."""

    STAY = "stay"
    ASK = "ask"  # for the next allocation
    LEAVE = "leave"  # drain: there is no next one


@dataclass(slots=True)
class Handover:
    """A move from one allocation to the next; `new` is None while it is being asked for."""

    old: Allocation
    generations: dict[RankKey, int]
    new: Allocation | None = None
    moved: set[RankKey] = field(default_factory=set)

    def moves(self, rank: RankKey, generation: int) -> bool:
        """Whether this is a rank of the new allocation, that has come."""
        if self.new is None or generation < self.generations.get(rank, generation + 1):
            return False
        self.moved.add(rank)
        return True

    @property
    def done(self) -> bool:
        """Whether nobody is in the old one any more."""
        return self.moved == self.generations.keys()


def ends_at(
    allocation: Allocation, *, walltime_s: float, left_s: float | None, asked_at: float
) -> float | None:
    """When the walltime ends (monotonic clock); None for a job that has not begun.

    `left_s`: how much is left, as the scheduler said at `asked_at`: it may have given less than we asked for.
    """
    if allocation.running_at is None:
        return None
    ours = allocation.running_at + walltime_s - CLOCK_SLACK_S
    return ours if left_s is None else min(ours, asked_at + left_s)


def next_step(config: AllocationConfig, *, end: float | None, now: float, may_ask: bool, waits: bool) -> Step:
    """What to do now. `may_ask`: no other allocation has been refused; `waits`: one has been asked for."""
    if end is None or waits:
        return Step.STAY
    leave_at = end - float(config.margin)
    if config.handover and may_ask:
        return Step.ASK if now >= leave_at - float(config.handover_lead) else Step.STAY
    return Step.LEAVE if now >= leave_at else Step.STAY


def next_generations(ranks: dict[RankKey, int], max_restarts: dict[str, int]) -> dict[RankKey, int]:
    """Generations for the new allocation: above all that the old one's keepers may still start. The ranks of a pool get
    the same, since MPI starts them together."""
    highest: dict[str, int] = {}
    for (pool, _), generation in ranks.items():
        highest[pool] = max(generation, highest.get(pool, 0))
    return {rank: highest[rank[0]] + max_restarts[rank[0]] + 1 for rank in ranks}
