"""What a scheduler says of a job, in words that are the same for all of them.

A scheduler is believed about *why* something happened, never about *whether* a rank lives: that is for heartbeats. Jobs
that it does not know are "unknown", never ended: queues are slow, servers restart, and ended jobs are forgotten.
"""

from dataclasses import dataclass
from enum import StrEnum


class JobState(StrEnum):
    """Where a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"
    UNKNOWN = "unknown"


class JobEnd(StrEnum):
    """Why a job ended, as a sentence about it goes on."""

    COMPLETED = "came to its end"
    CANCELLED = "was cancelled"
    WALLTIME = "reached its walltime"
    NODE_FAILURE = "lost a node"
    PREEMPTED = "was preempted"
    MEMORY = "ran out of memory"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobWord:
    """One answer. `reason` is the scheduler's own text; `queue` where the job waits; `time_left_s` of its walltime."""

    state: JobState
    end: JobEnd | None = None
    reason: str = ""
    nodes: tuple[str, ...] = ()
    exit_status: str = ""
    queue: str = ""
    time_left_s: float | None = None
    position: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether the scheduler has ended the job, or is about to."""
        return self.state in (JobState.ENDING, JobState.ENDED)

    def why(self) -> str:
        """Why the job ended, for people: "was cancelled", "failed (exit status 1)"."""
        if self.end is None:
            return "is being ended by the scheduler" if self.is_over else f"is {self.state}"
        notes = [self.reason] if self.reason else []
        if self.end in (JobEnd.FAILED, JobEnd.COMPLETED) and self.exit_status:
            notes.append(f"exit status {self.exit_status}")
        return f"{self.end} ({', '.join(notes)})" if notes else str(self.end)


UNKNOWN = JobWord(state=JobState.UNKNOWN)


def seconds(text: str) -> float | None:
    """Seconds of "1-02:03:04", "02:03:04" or "03:04"; None for anything else, such as UNLIMITED."""
    days, _, clock = text.rpartition("-")
    parts = clock.split(":")
    if (
        not all(part.isdecimal() for part in parts)
        or not 2 <= len(parts) <= 3
        or (days and not days.isdecimal())
    ):
        return None
    total = 0
    for part in parts:
        total = 60 * total + int(part)
    return float(total + 86400 * int(days or 0))
