"""Life cycles of a run and of a rank, as tables.

The choice: (state, event) → state, and nothing else. Whoever acts asks the table first; a move that is not in
it is a mistake and raises with the whole history. Times are given by the caller.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from beamcast.core.errors import BeamcastError


class RunState(StrEnum):
    """Where a run is."""

    SUBMITTED = "submitted"
    QUEUED = "queued"
    STARTING = "starting"
    READY = "ready"
    STREAMING = "streaming"
    DRAINING = "draining"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing can follow."""
        return self in (RunState.DONE, RunState.FAILED, RunState.CANCELLED)


class RunEvent(StrEnum):
    """What can happen to a run."""

    QUEUED = "queued"  # the scheduler has taken the job; also again, after the allocation was lost
    ALLOCATED = "allocated"  # nodes are there, ranks are being started
    ALL_READY = "all-ready"  # every rank's monitor has received a probe update
    FIRST_FRAME = "first-frame"  # the source has sent a frame that counts
    END_OF_STREAM = "end-of-stream"  # no more frames: all sent, idle for long enough, or told to stop
    DRAINED = "drained"  # the ledger is whole, or the drain's deadline has passed
    FAIL = "fail"
    CANCEL = "cancel"


class RankState(StrEnum):
    """Where a rank is."""

    EXPECTED = "expected"
    REGISTERED = "registered"
    CONNECTED = "connected"
    READY = "ready"
    RUNNING = "running"
    FINISHED = "finished"
    DEAD = "dead"
    FAILED = "failed"

    @property
    def is_live(self) -> bool:
        """Whether the process is known to run."""
        return self in _LIVE


_LIVE = (RankState.READY, RankState.RUNNING, RankState.REGISTERED, RankState.CONNECTED)


class RankEvent(StrEnum):
    """What can happen to a rank."""

    REGISTER = "register"  # its first RPC arrived
    CONNECT = "connect"  # its monitor is connected
    PROBE = "probe"  # its monitor has received a probe update
    FRAME = "frame"  # it has received a frame
    FINISH = "finish"  # it has said that it ends
    DIE = "die"  # silent for too long, or its process is gone
    FAIL = "fail"  # it has said that it can't go on
    RESTART = "restart"  # another process takes its place: a new generation
    REVIVE = "revive"  # it was silent, not dead: nobody has taken its place, and it speaks again


_RUN_BEFORE_END = (
    RunState.SUBMITTED,
    RunState.QUEUED,
    RunState.STARTING,
    RunState.READY,
    RunState.STREAMING,
    RunState.DRAINING,
)
RUN_MOVES: Mapping[tuple[RunState, RunEvent], RunState] = {
    (RunState.SUBMITTED, RunEvent.QUEUED): RunState.QUEUED,
    (RunState.SUBMITTED, RunEvent.ALLOCATED): RunState.STARTING,  # local: no queue
    (RunState.QUEUED, RunEvent.ALLOCATED): RunState.STARTING,
    (RunState.STARTING, RunEvent.QUEUED): RunState.QUEUED,  # the block was lost before the run was ready
    (RunState.STARTING, RunEvent.ALL_READY): RunState.READY,
    (RunState.READY, RunEvent.FIRST_FRAME): RunState.STREAMING,
    (RunState.READY, RunEvent.END_OF_STREAM): RunState.DRAINING,  # stopped before a frame came
    (RunState.STREAMING, RunEvent.END_OF_STREAM): RunState.DRAINING,
    (RunState.DRAINING, RunEvent.DRAINED): RunState.DONE,
    **{(state, RunEvent.FAIL): RunState.FAILED for state in _RUN_BEFORE_END},
    **{(state, RunEvent.CANCEL): RunState.CANCELLED for state in _RUN_BEFORE_END},
}

_RANK_BEFORE_END = (
    RankState.EXPECTED,
    RankState.REGISTERED,
    RankState.CONNECTED,
    RankState.READY,
    RankState.RUNNING,
)
RANK_MOVES: Mapping[tuple[RankState, RankEvent], RankState] = {
    (RankState.EXPECTED, RankEvent.REGISTER): RankState.REGISTERED,
    (RankState.REGISTERED, RankEvent.CONNECT): RankState.CONNECTED,
    (RankState.CONNECTED, RankEvent.PROBE): RankState.READY,
    (RankState.READY, RankEvent.FRAME): RankState.RUNNING,
    **{(state, RankEvent.FINISH): RankState.FINISHED for state in _RANK_BEFORE_END[1:]},
    **{(state, RankEvent.DIE): RankState.DEAD for state in _RANK_BEFORE_END},
    **{(state, RankEvent.FAIL): RankState.FAILED for state in _RANK_BEFORE_END},
    (RankState.DEAD, RankEvent.RESTART): RankState.EXPECTED,
    (RankState.DEAD, RankEvent.REVIVE): RankState.REGISTERED,
    (RankState.FAILED, RankEvent.RESTART): RankState.EXPECTED,
    (
        RankState.FINISHED,
        RankEvent.RESTART,
    ): RankState.EXPECTED,  # its pool was made smaller, and larger again
}

# Without a reason, "failed" and "cancelled" would tell nobody anything.
_NEEDS_REASON = frozenset({"fail", "cancel", "die"})

StateT = TypeVar("StateT", bound=StrEnum)
EventT = TypeVar("EventT", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Step(Generic[StateT, EventT]):
    """One move: what happened, the state after it, when (seconds of the caller's clock) and why."""

    event: EventT
    state: StateT
    at: float
    reason: str = ""

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.at:.3f} s {self.event} → {self.state}{why}"


class IllegalMove(BeamcastError):
    """An event that the table does not allow in this state. The text ends with the history."""


class RunLifecycle:
    """The state of one run and how it came there."""

    def __init__(self) -> None:
        self._state = RunState.SUBMITTED
        self._history: list[Step[RunState, RunEvent]] = []

    @property
    def state(self) -> RunState:
        """The present state."""
        return self._state

    @property
    def history(self) -> tuple[Step[RunState, RunEvent], ...]:
        """Every move, oldest first."""
        return tuple(self._history)

    def on(self, event: RunEvent, *, at: float, reason: str = "") -> RunState:
        """Make the move that belongs to `event` and return the new state.

        Raises:
            IllegalMove: the table has no such move; the state stays.
            ValueError: `fail` or `cancel` without a reason.
        """
        state = _next_state(RUN_MOVES, self._state, event, self.history, "run", reason)
        self._history.append(Step(event, state, at, reason))
        self._state = state
        return state


class RankLifecycle:
    """The state of one rank over all its generations (processes)."""

    def __init__(self) -> None:
        self._state = RankState.EXPECTED
        self._generation = 0
        self._history: list[Step[RankState, RankEvent]] = []

    @property
    def state(self) -> RankState:
        """The present state."""
        return self._state

    @property
    def generation(self) -> int:
        """How many times the rank was restarted."""
        return self._generation

    @property
    def history(self) -> tuple[Step[RankState, RankEvent], ...]:
        """Every move, oldest first, over all generations."""
        return tuple(self._history)

    def on(self, event: RankEvent, *, at: float, reason: str = "") -> RankState:
        """Make the move that belongs to `event` and return the new state.

        Raises:
            IllegalMove: the table has no such move; the state stays.
            ValueError: `fail` or `die` without a reason.
        """
        what = f"rank (generation {self._generation})"
        state = _next_state(RANK_MOVES, self._state, event, self.history, what, reason)
        self._generation += event is RankEvent.RESTART
        self._history.append(Step(event, state, at, reason))
        self._state = state
        return state


def _next_state(
    moves: Mapping[tuple[StateT, EventT], StateT],
    state: StateT,
    event: EventT,
    history: tuple[object, ...],
    what: str,
    reason: str,
) -> StateT:
    following = moves.get((state, event))
    if following is None:
        past = "; ".join(str(step) for step in history) or "nothing happened before"
        raise IllegalMove(f"{what}: '{event}' can't happen in state '{state}' (history: {past})")
    if event.value in _NEEDS_REASON and not reason:
        raise ValueError(f"{what}: '{event}' needs a reason")
    return following
