"""What a scenario is, and how one is carried out: load, blow, and what must come out of it."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from beamcast.core.ids import parse_ranges
from beamcast.sim.payload import PayloadMaker
from chaos.load import Load
from chaos.trial import Trial
from chaos.verdict import Arrival, Row, lost_and_duplicated, remade_after_s, whole_after_s

FINISH_TIMEOUT_S = 150.0
MAX_SHOWN = 5
LOST = 3  # the exit status of a run that lost frames


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known when a trial is over."""

    run_dir: Path
    report: dict[str, Any]
    status: int
    sent: Sequence[int]
    results: list[Arrival]
    blow_at: float | None

    def named_lost(self) -> list[int]:
        """The ids that the report names as missing."""
        return sorted(key for missing in self.report["missing"] for key in parse_ranges(missing["ids"]))

    def named_failed(self) -> list[int]:
        """The ids that the report names as failed."""
        return sorted({int(frame["id"]) for frame in self.report["failed_frames"]})

    def deaths(self) -> list[str]:
        """Why members died, in words."""
        ranks = [rank for pool in self.report["pools"] for rank in pool["ranks"]]
        return [death for rank in ranks for death in rank["deaths"]]


Judge = Callable[[Outcome], list[str]]
Blow = Callable[[Trial], float | None]


def nothing_lost(outcome: Outcome) -> list[str]:
    """Every frame has exactly one result."""
    lost, _ = lost_and_duplicated(outcome.sent, outcome.results)
    return [f"lost {_some(lost)}"] if lost else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One line of the table. `blow` hurts the run and returns when; `judges` say what is wrong with the outcome.

    `stage` makes what the trial stands on (a detector, a small disk, networks) and gives `Trial`'s keyword arguments.
    `sent` names the ids where they are not those of one go of the detector.
    """

    name: str
    load: Load
    blow: Blow
    judges: tuple[Judge, ...] = (nothing_lost,)
    sent: Callable[[Load], Sequence[int]] = field(default=lambda load: range(1, load.frames + 1))
    status: int | None = 0
    """Of the run; None: 3 where frames were lost, and 0 where none was."""
    stage: Callable[[Path, Load], Any] | None = None
    absent: Callable[[], str | None] = field(default=lambda: None)
    """Why it can't be played on this machine; None where it can."""


@contextmanager
def _no_stage(folder: Path, load: Load) -> Iterator[tuple[Load, dict[str, Any]]]:
    yield load, {}


def play(scenario: Scenario, *, folder: Path | None = None) -> Row:
    """Carry out one scenario and judge it. What goes wrong with the trial itself is a problem of the row."""
    with ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="beamcast-chaos-")))
        try:
            return judged(scenario, _carry_out(scenario, place))
        except RuntimeError as trouble:
            return _void(scenario, str(trouble))


def _carry_out(scenario: Scenario, folder: Path) -> Outcome:
    stage = scenario.stage or _no_stage
    with stage(folder, scenario.load) as (load, stand), Trial(folder, load, **stand) as trial:
        trial.take(load.frames)
        blow_at = scenario.blow(trial)
        status = trial.finish(timeout_s=FINISH_TIMEOUT_S)
        return Outcome(
            run_dir=trial.run_dir,
            report=trial.report(),
            status=status,
            sent=scenario.sent(load),
            results=trial.results,
            blow_at=blow_at,
        )


def judged(scenario: Scenario, outcome: Outcome) -> Row:
    """The row of an outcome."""
    lost, duplicates = lost_and_duplicated(outcome.sent, outcome.results)
    problems = [problem for judge in scenario.judges for problem in judge(outcome)]
    expected = scenario.status if scenario.status is not None else LOST if lost else 0
    if outcome.status != expected:
        problems.append(f"exit status {outcome.status}: {outcome.report['reason']}")
    if duplicates:
        problems.append(f"twice {_some(duplicates)}")
    problems += _wrong_totals(scenario.load, outcome.results)
    at = outcome.blow_at
    return Row(
        scenario=scenario.name,
        sent=len(outcome.sent),
        results=len(outcome.results),
        lost=tuple(lost),
        duplicates=tuple(duplicates),
        sent_again=outcome.report["frames"]["sent_again"],
        whole_after_s=None if at is None else whole_after_s(outcome.results, at),
        remade_after_s=None if at is None else remade_after_s(outcome.results, at),
        problems=tuple(problems),
    )


def _wrong_totals(load: Load, results: Sequence[Arrival]) -> list[str]:
    """Results that do not belong to the payload of their frame."""
    maker = PayloadMaker((load.size, load.size), "uint8", 0)
    wrong = [
        result.frame_id
        for result in results
        if result.total != float(np.sum(maker.borrow(result.frame_id), dtype=np.uint64))
    ]
    return [f"wrong {_some(wrong)}"] if wrong else []


def _void(scenario: Scenario, trouble: str) -> Row:
    return Row(scenario.name, 0, 0, (), (), 0, None, None, (f"void: {trouble}",))


def _some(ids: Sequence[int]) -> str:
    shown = ", ".join(str(each) for each in ids[:MAX_SHOWN])
    return f"{len(ids)} ({shown}{', …' if len(ids) > MAX_SHOWN else ''})"
