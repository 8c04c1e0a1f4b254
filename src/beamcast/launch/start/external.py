"""Ranks that somebody else starts: a script is written into the run directory, and the run waits for who comes.

For sites that allow no process of ours beside their scheduler, and for nodes that were allocated by other means.
Whoever starts the script has to be able to read the run directory: its secret has mode 0600.
"""

import logging
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from beamcast.launch.plan import RunPlan
from beamcast.launch.seating import seating
from beamcast.launch.start.start_script import script_name, start_script, submit_line
from beamcast.launch.start.starts import Generations, OnEnd, OthersAllocation
from beamcast.members.host.seat import write_seats

logger = logging.getLogger(__name__)


class ExternalStart(OthersAllocation):
    """Writes the seats and the script. Use as a context manager, as the other ways to start ranks."""

    def __init__(self, plan: RunPlan, run_dir: Path) -> None:
        self._plan = plan
        self._run_dir = run_dir

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing of ours runs there: the ranks end by the run's order, or for want of a controller."""

    def start(self, allocation: int, generations: Generations, on_end: OnEnd) -> int:
        """Write the script. No start is ours, so nobody says when one ends: heartbeats alone tell."""
        write_seats(self._run_dir, seating(self._plan))
        path = self._run_dir / script_name(self._plan.site)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o700)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(start_script(self._plan, self._run_dir, python=sys.executable))
        logger.info("ranks are started by: %s", submit_line(self._plan.site, path))
        return 0
