"""One start and one end of a command, as a stranger does it."""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from endings.leftovers import MARK, left_by
from endings.terminal import CTRL_BACKSLASH, CTRL_C, Terminal

# From the last thing that was done to it.
ENDS_WITHIN_S = 10.0
REFUSALS = ("error:", "interrupted", "Aborted", "Usage:")


@dataclass(frozen=True, slots=True)
class Way:
    """A way in which people and programs end a command: what is done, and the pauses between, in seconds."""

    name: str
    act: Callable[[Terminal], None]
    pauses_s: Sequence[float] = ()


def _key(key: bytes) -> Callable[[Terminal], None]:
    return lambda terminal: terminal.press(key)


def _group(number: signal.Signals) -> Callable[[Terminal], None]:
    return lambda terminal: terminal.signal_group(number)


WAYS = (
    Way("Ctrl-C", _key(CTRL_C)),
    Way("Ctrl-C twice", _key(CTRL_C), (0.3,)),
    Way("Ctrl-C twice, later", _key(CTRL_C), (1.5,)),
    Way("Ctrl-C three times", _key(CTRL_C), (0.3, 0.3)),
    Way("Ctrl-\\", _key(CTRL_BACKSLASH)),
    Way("window closed", lambda terminal: terminal.close()),
    Way("SIGHUP to the group", _group(signal.SIGHUP)),
    Way("SIGTERM to the group", _group(signal.SIGTERM)),
    Way("SIGTERM twice", _group(signal.SIGTERM), (0.5,)),
    Way("SIGINT to the group", _group(signal.SIGINT)),
)


@dataclass(slots=True)
class Outcome:
    """What became of it."""

    number: int
    what: str
    at: str
    way: str
    seconds: float | None = None
    status: int | None = None
    report: str = ""
    problems: list[str] = field(default_factory=list)


def command(*words: str) -> list[str]:
    """`beamcast` with this interpreter."""
    return [sys.executable, "-P", "-m", "beamcast", *words]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """That of a user in `folder`, whose temporary files are in a folder of their own."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return {**os.environ, MARK: str(folder), "TMPDIR": str(temporary), **more}


def end_it(
    terminal: Terminal,
    way: Way,
    outcome: Outcome,
    *,
    folder: Path,
    run_dir: Path,
    within_s: float = ENDS_WITHIN_S,
) -> Outcome:
    """Do it, wait for the end, and look at what is left."""
    way.act(terminal)
    for pause_s in way.pauses_s:
        time.sleep(pause_s)
        way.act(terminal)
    outcome.seconds = terminal.ended_within(within_s)
    if outcome.seconds is None:
        outcome.problems.append(f"did not end within {within_s:g} s")
        return outcome
    outcome.status = terminal.process.returncode
    outcome.report = _report(run_dir, terminal.shown, window_there=way.name != "window closed")
    if not outcome.report:
        outcome.problems.append("neither a report nor a refusal: " + terminal.shown[-400:])
    if "Traceback" in terminal.shown:
        outcome.problems.append("a traceback on the screen: " + terminal.shown[-800:])
    outcome.problems += [
        f"left: {each}" for each in left_by(folder, run_dir=run_dir, temporary=folder / "tmp")
    ]
    return outcome


def _report(run_dir: Path, shown: str, *, window_there: bool) -> str:
    """The state that the report tells, or "refused"; "" where nothing is told."""
    path = run_dir / "report.json"
    if path.is_file():
        return str(json.loads(path.read_text())["state"])
    if (run_dir / "lease.json").exists():
        return ""
    return "refused" if not window_there or any(word in shown for word in REFUSALS) else "not begun"


def random_moment(seed: random.Random) -> float:
    """Seconds after the start: imports, start, stream, end."""
    return seed.choice([seed.uniform(0.0, 1.5), seed.uniform(1.5, 6.0), seed.uniform(6.0, 14.0)])
