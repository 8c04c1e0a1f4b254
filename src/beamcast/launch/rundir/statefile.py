"""The report so far as a file, for hosts that see the run directory and can't reach the controller."""

import time
from pathlib import Path

from beamcast.observe.report import Report, write_report

# Often enough for people, seldom enough for a file server that many runs share.
PERIOD_S = 2.0


class StateFile:
    """Call it with each report: it writes when the state has changed, and every few seconds. One thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = ("", 0.0)

    def __call__(self, report: Report) -> None:
        """Write the report, if it is time."""
        key = f"{report.state} {[(each.job, each.state) for each in report.allocations]}"
        before, at = self._written
        now = time.monotonic()
        if key == before and now - at < PERIOD_S:
            return
        self._written = (key, now)
        write_report(self._path, report)
