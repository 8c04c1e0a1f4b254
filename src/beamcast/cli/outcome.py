"""How a command ends: exit statuses and the words on stderr."""

from beamcast.core.errors import BeamcastError, UsageError
from beamcast.observe.report import Report

DONE = 0
FAILED = 1
LOST = 3


class Quit(Exception):
    """A command ends with a status of its own; everything has been said."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def run_status(report: Report, *, allow_lost: int, error: BeamcastError | None) -> int:
    """The exit status of a run."""
    if isinstance(error, UsageError):
        return error.exit_code
    if report.state != "done" or error is not None:
        return FAILED
    return LOST if report.frames.lost > allow_lost else DONE


def lost_text(report: Report, *, allow_lost: int) -> str:
    """Why a run that went to its end is not a good one."""
    return (
        f"error: {report.frames.lost} of {report.frames.source} frames were lost, and the workflow allows "
        f"{allow_lost} (allow_lost); the report names them"
    )


def error_text(error: BeamcastError, *, debug: bool) -> str:
    """One line for each problem; with `debug`, the traceback of what the user's own code raised follows."""
    notes = getattr(error, "__notes__", ()) if debug else ()
    lines = [f"error: {line}" if index == 0 else line for index, line in enumerate(str(error).splitlines())]
    return "\n".join([*lines, *(note.rstrip() for note in notes)])
