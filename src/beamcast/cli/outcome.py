"""How a command ends: exit statuses and the words on stderr."""

from beamcast.core.errors import BeamcastError
from beamcast.observe.report import Report
from beamcast.observe.verdict import verdict_of

DONE = 0
FAILED = 1
# As shells tell it: ended by SIGINT, before a run had begun.
INTERRUPTED = 130


class Quit(Exception):
    """A command ends with a status of its own; everything has been said."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def report_status(report: Report) -> int:
    """The exit status of a command that has watched a run to its end."""
    verdict = verdict_of(report)
    return FAILED if verdict is None else verdict.exit_status


def error_text(error: BeamcastError, *, debug: bool) -> str:
    """One line for each problem; with `debug`, the traceback of what the user's own code raised follows."""
    notes = getattr(error, "__notes__", ()) if debug else ()
    lines = [f"error: {line}" if index == 0 else line for index, line in enumerate(str(error).splitlines())]
    return "\n".join([*lines, *(note.rstrip() for note in notes)])
