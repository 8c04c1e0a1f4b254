"""The checks of `beamcast doctor`: who they are, and how one that breaks is told from one that fails.

    @check("scheduler")
    def scheduler(ground: Ground) -> Iterator[Finding]:
        yield ok("squeue answers")

A check looks at one thing that users get wrong, ends by itself within seconds, and says what to do. It starts nothing
that costs somebody's allocation.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from beamcast.config.site import Site
from beamcast.core.errors import BeamcastError, UsageError

logger = logging.getLogger(__name__)

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer. `do`: what to do about it, empty where nothing is to be done."""

    verdict: Verdict
    found: str
    do: str = ""
    check: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Ground:
    """What is looked at: a site, and where its run directories go."""

    site: Site
    run_root: Path


Check = Callable[[Ground], Iterable[Finding]]
_checks: dict[str, Check] = {}


def check(name: str) -> Callable[[Check], Check]:
    """Add a function to the checks, which run in the order in which they were added."""

    def add(function: Check) -> Check:
        _checks[name] = function
        return function

    return add


# The order in which checks are done: the host first, then what it leads to.
MODULES = ("host", "system", "batch", "frame")


def add_checks() -> None:
    """Have all modules add their checks."""
    for module in MODULES:
        import_module(f"beamcast.launch.checks.{module}")


def ok(found: str) -> Finding:
    """All is well."""
    return Finding("ok", found)


def warn(found: str, do: str) -> Finding:
    """It may do, or can't be told from here."""
    return Finding("warn", found, do)


def fail(found: str, do: str) -> Finding:
    """A run would fail."""
    return Finding("fail", found, do)


def names() -> tuple[str, ...]:
    """The checks there are."""
    return tuple(_checks)


def examine(ground: Ground, only: Sequence[str] = ()) -> Iterator[Finding]:
    """Do all checks, or those named, one after the other; UsageError for a name that there is not."""
    unknown = sorted(set(only) - set(_checks))
    if unknown:
        raise UsageError(f"there is no check {', '.join(unknown)}", hint=f"there are: {', '.join(_checks)}")
    for name, function in _checks.items():
        if not only or name in only:
            yield from _named(name, function, ground)


def _named(name: str, function: Check, ground: Ground) -> Iterator[Finding]:
    began = time.monotonic()
    try:
        findings = list(function(ground))
    except BeamcastError as error:
        findings = [fail(error.message, error.hint or "mend the cause and look again")]
    except Exception as error:
        # One check that breaks must not hide what the others find.
        logger.exception("check %s", name)
        findings = [fail(f"the check broke: {type(error).__name__}: {error}", "please report it")]
    for finding in findings:
        seconds = round(time.monotonic() - began, 3)
        yield Finding(finding.verdict, finding.found, finding.do, check=name, seconds=seconds)
