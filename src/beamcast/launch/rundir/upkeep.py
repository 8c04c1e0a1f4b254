"""Writing down a run that goes on: what the disk refuses costs what would have been written, never the run.

A disk that fills up, a file server that is away and a run directory that somebody has removed all end in an OSError
here. Frames don't go through the run directory, so the run goes on. It is told once for each thing that is missing.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from beamcast.core.refusals import refusal

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Upkeep:
    """Does what can be done without. May be used from several threads."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._told: set[str] = set()

    def __call__(self, what: str, act: Callable[[], T]) -> T | None:
        """Do it and return its answer; None where the disk refuses. `what` names the thing: "the state file"."""
        try:
            return act()
        except OSError as error:
            if what not in self._told:
                # The first is for the screen: those that follow have the same reason.
                level = logging.INFO if self._told else logging.WARNING
                self._told.add(what)
                logger.log(level, "%s", self._words(what, error))
            return None

    def _words(self, what: str, error: OSError) -> str:
        worded = refusal(error)
        return (
            f"{what} of the run can't be written in {self._run_dir}: "
            f"{worded.message if worded is not None else error}; the run goes on without it. If the disk is full, "
            "make room; what needs it is written as soon as that is possible"
        )
