"""What became of a rank whose heartbeat or process has ended: was it ours, or did its allocation go? Pure.

The end itself is known from heartbeats and from the rank's own starter. The scheduler is asked only why; its answer has
to be younger than the end, and it gets a few seconds to give one.
"""

from dataclasses import dataclass

from beamcast.launch.jobs.watch import Heard
from beamcast.launch.jobs.words import JobState
from beamcast.members.host.exits import end_in_words

# A job that is being ended becomes "ended" after the scheduler's grace period, often five seconds: until then the
# reason is not known. Together with the silence that makes a rank dead (5 s) the user waits less than ten seconds.
PATIENCE_S = 4.0


@dataclass(frozen=True, slots=True)
class End:
    """The end of a rank's start: at `at`, with an exit status, words of Parsl, or None (no heartbeat any more)."""

    at: float
    status: int | str | None


@dataclass(frozen=True, slots=True)
class Fate:
    """Whether the allocation went, and why, or how the process ended, for people."""

    allocation_lost: bool
    why: str


def fate_of(end: End, *, job: str, heard: Heard, host: str, now: float) -> Fate | None:
    """What became of it; None while that is not known. A rank that is only silent, in a job that runs, is waited for:
    its link may have been cut for a while."""
    status = end.status
    word, fresh, patient = heard.word, heard.asked_at > end.at, now - end.at < PATIENCE_S
    if fresh and word.state is JobState.ENDED:
        return Fate(True, f"job {job} {word.why()}")
    if status is not None and fresh and not word.is_over and (node := _silent(host, heard.silent_nodes)):
        return Fate(True, f"node {node} does not answer the scheduler any more (job {job})")
    if status is None or (patient and (not fresh or word.is_over or isinstance(status, str))):
        return None
    if word.is_over:
        return Fate(True, f"job {job} {word.why()}")
    if isinstance(status, str):
        return Fate(True, f"{status} (the scheduler says that job {job} {word.why()})")
    return Fate(False, end_in_words(status))


def _silent(host: str, nodes: tuple[str, ...]) -> str | None:
    """The node that this host is, if it is one of these: either name may have a domain."""
    short = host.partition(".")[0]
    return next((node for node in nodes if short and node.partition(".")[0] == short), None)
