"""What a run shows while it lasts: a live view on a terminal, a line a second elsewhere, or nothing."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live

from beamcast.observe.lines import failure_line, progress_line, read_line
from beamcast.observe.report import Report
from beamcast.observe.tables import live_view

LINE_PERIOD_S = 1.0


class Watch:
    """Call it with each report. Use as a context manager; one thread."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._live: Live | None = None
        self._line_at = float("-inf")
        self._state = ""
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the live view away; nothing is shown after that. From any thread."""
        live, self._live = self._live, None
        self._quiet = True
        if live is not None:
            live.stop()

    def __call__(self, report: Report) -> None:
        """Show a report."""
        now = time.monotonic()
        if (live := self._live) is not None:
            size = self._console.size
            live.update(live_view(report, width=size.width, height=size.height), refresh=True)
        elif not self._quiet and (now - self._line_at >= LINE_PERIOD_S or report.state != self._state):
            self._line_at = now
            self._state = report.state
            print(progress_line(report), flush=True)
            self._tell_once(report)

    def _tell_once(self, report: Report) -> None:
        """What stands on a screen all the time is a line of its own elsewhere."""
        line = read_line(report)
        if line is not None and report.state == "streaming":
            self._say("read", f"read the result: {line}")
        if (failure := failure_line(report)) is not None:
            self._say("failure", failure)

    def _say(self, what: str, line: str) -> None:
        if what not in self._told:
            self._told.add(what)
            print(line, flush=True)


def output_console() -> Console:
    """stdout; wide enough for the tables where it is no terminal, whose width would be taken as 80."""
    console = Console(highlight=False, markup=False, emoji=False)
    return console if console.is_terminal else Console(width=140, highlight=False, markup=False, emoji=False)
