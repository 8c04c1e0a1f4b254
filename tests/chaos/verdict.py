"""From what the detector sent and what a beamline client received to one row of the table. Pure.

Counters of the run are not asked: lost and duplicated frames follow from the ids alone.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

# A result that comes later after its frame than this is late: the stream is whole again with the last late one.
LATE_S = 1.0
# The last results of all wait in the collector until it is sure that nothing comes before them: that is no consequence
# of a blow.
TAIL_S = 0.5
# A result that was made this long after its frame was made again, or for the first time by another rank: at the load of
# the suite, results are made within milliseconds.
REMADE_S = 0.2


@dataclass(frozen=True, slots=True)
class Arrival:
    """One update of the result PV. Times in seconds of the wall clock."""

    frame_id: int
    total: float
    taken_at: float
    made_at: float
    pid: int
    came_at: float


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. Frames unless the name says otherwise; None where it makes no sense."""

    scenario: str
    sent: int
    results: int
    lost: tuple[int, ...]
    duplicates: tuple[int, ...]
    sent_again: int
    whole_after_s: float | None
    remade_after_s: float | None
    problems: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """ "good", or what is wrong."""
        return "; ".join(self.problems) or "good"


def read_arrivals(path: Path) -> list[Arrival]:
    """What the client wrote; a last line that is not whole yet is left out."""
    if not path.exists():
        return []
    text = path.read_text()
    lines = text[: text.rfind("\n") + 1].splitlines()
    return [_arrival(line.split()) for line in lines]


def _arrival(words: Sequence[str]) -> Arrival:
    frame_id, total, taken_at, made_at, pid, came_at = words
    return Arrival(int(frame_id), float(total), float(taken_at), float(made_at), int(pid), float(came_at))


def results_of(arrivals: Iterable[Arrival]) -> list[Arrival]:
    """Those that are results: what the PV had before the first one has no process that made it, or no id."""
    return [arrival for arrival in arrivals if arrival.pid and arrival.frame_id]


def lost_and_duplicated(sent: Iterable[int], results: Iterable[Arrival]) -> tuple[list[int], list[int]]:
    """Ids that came less often than they were sent, and more often."""
    was_sent = Counter(sent)
    came = Counter(result.frame_id for result in results)
    return sorted((was_sent - came).elements()), sorted((came - was_sent).elements())


def whole_after_s(results: Iterable[Arrival], blow_at: float) -> float:
    """Seconds from the blow until the last result came that was late; 0 where none was."""
    known = list(results)
    ends_at = max((result.taken_at for result in known), default=0.0) - TAIL_S
    late = [
        result.came_at
        for result in known
        if result.came_at - result.taken_at > LATE_S and result.taken_at < ends_at
    ]
    return max(0.0, max(late, default=blow_at) - blow_at)


def remade_after_s(results: Iterable[Arrival], blow_at: float) -> float | None:
    """Seconds from the blow until the first result came that had to be made again; None where none had to."""
    again = [
        result.came_at
        for result in results
        if result.made_at > blow_at and result.made_at - result.taken_at > REMADE_S
    ]
    return min(again) - blow_at if again else None
