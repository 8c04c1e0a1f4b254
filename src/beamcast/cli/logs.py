"""Logging of the commands: the library asks for loggers, here they get their outputs.

Lines for people on a terminal, JSON lines otherwise, both on stderr. A run writes everything to its own file and shows
how it is by lines for people: what stands between them is the message alone.
Of what libraries say, the terminal gets warnings alone; what Parsl says of its allocations is in the run's file.
"""

import logging
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

import structlog

logger = logging.getLogger(__name__)

_SHARED: list[Any] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what is stderr now: a live view takes its place while it is on."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class _RunFileHandler(logging.FileHandler):
    """Begins when its folder is there: the run makes it, and removes an older one of the same name."""

    _told = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if Path(self.baseFilename).parent.is_dir():
                super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A disk that is full, or a folder that is gone, costs the log and nothing else; it is told once."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._told:
            self._told = True
            logger.warning("the log %s can't be written: %s", self.baseFilename, error.strerror or error)


def _from_others_only_warnings(record: logging.LogRecord) -> bool:
    package = record.name.partition(".")[0]
    # What Parsl has to say is for whoever looks into the run's log file: it repeats itself several times a second.
    return package == "beamcast" or (record.levelno >= logging.WARNING and package != "parsl")


def _not_told_at_the_end(record: logging.LogRecord) -> bool:
    """The error that ends a run is the command's last word; once is enough."""
    return not (record.name.startswith("beamcast.launch") and record.levelno == logging.ERROR)


def _formatter(*, human: bool, colors: bool = False) -> logging.Formatter:
    last: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if human:
        last.append(structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0))
    else:
        last += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_SHARED, processors=last)


def _tell_of_thread(ended: threading.ExceptHookArgs) -> None:
    """What ends a thread goes where everything else goes, the run's log too, and not over the view."""
    name = ended.thread.name if ended.thread is not None else "?"
    if ended.exc_type is not SystemExit and ended.exc_value is not None:
        logger.error("the thread %s has ended by an error", name, exc_info=ended.exc_value)


class _BareFormatter(logging.Formatter):
    """The message, after its level where that is a warning or worse."""

    def format(self, record: logging.LogRecord) -> str:
        # Not that of the base class: it leaves the message in the record, and the next handler would tell it twice.
        text = record.getMessage()
        if record.exc_info:
            text += f"\n{self.formatException(record.exc_info)}"
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


def configure_logging(*, debug: bool, quiet: bool = False, file: Path | None = None) -> None:
    """Set up the root logger. `file`: that of a run. On a terminal only warnings are shown (the view shows the rest)
    unless `debug`."""
    terminal = sys.stderr.isatty()
    handler = _StderrHandler()
    bare = file is not None and not terminal
    handler.setFormatter(_BareFormatter() if bare else _formatter(human=terminal, colors=terminal))
    handler.setLevel(logging.DEBUG if debug else logging.WARNING if terminal or quiet else logging.INFO)
    handler.addFilter(_from_others_only_warnings)
    handler.addFilter(_not_told_at_the_end)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("beamcast").setLevel(logging.DEBUG if debug else logging.INFO)
    threading.excepthook = _tell_of_thread
    if file is not None:
        to_file = _RunFileHandler(file, delay=True, encoding="utf-8")
        to_file.setFormatter(_formatter(human=False))
        root.addHandler(to_file)
