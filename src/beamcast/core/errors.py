"""The errors of beamcast, by what a caller can do about them.

    BeamcastError
    ├── UsageError        you used it wrongly: correct the command or the file (exit status 2)
    │   ├── NothingToConfigure  a processor has no `configure`
    │   └── ConfigError   a workflow file, site file or --set is wrong; carries every problem found
    ├── DataError         the frames, metadata or files are not what was promised
    │   └── TooManyFailed more frames failed than the workflow allows (exit status 4)
    └── WorldError        the network, the scheduler or a process failed; says whether a retry may help

Every error travels between processes by pickle (Parsl does so), which calls the class with the message alone
and then restores the attributes: so a subclass keeps `message` as its only required argument.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Self


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where it stands, what it is, and what to do about it."""

    message: str
    where: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        return _sentence(self.message, self.where, self.hint)

    def inside(self, outer: str) -> Self:
        """Return the same problem seen from outside, such as from the file that holds the path."""
        return replace(self, where=outer if self.where is None else f"{outer}: {self.where}")


class BeamcastError(Exception):
    """Root of all errors that beamcast raises on purpose.

    `message` says what is wrong, `hint` what to do, `where` names the file and path, rank or channel.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, where: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        return _sentence(self.message, self.where, self.hint)


class UsageError(BeamcastError):
    """You used it wrongly: the command or the file has to change before another try makes sense."""

    exit_code = 2


class NothingToConfigure(UsageError):
    """A processor has no parameters that can be changed while it runs."""


class ConfigError(UsageError):
    """A configuration is wrong; `problems` holds everything that could be found in one go, never empty."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        where: str | None = None,
        problems: Iterable[Problem] = (),
    ) -> None:
        super().__init__(message, hint=hint, where=where)
        self.problems = tuple(problems) or (Problem(message, where, hint),)

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> Self:
        """Return one error for one or more problems; ValueError when there is none."""
        found = tuple(problems)
        if not found:
            raise ValueError("a ConfigError needs at least one problem")
        if len(found) == 1:
            return cls(found[0].message, hint=found[0].hint, where=found[0].where)
        return cls(f"{len(found)} problems in the configuration", problems=found)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class DataError(BeamcastError):
    """The data are wrong: a frame, a metadata update or a data file is not what was promised."""


class TooManyFailed(DataError):
    """A processor has failed on more frames than the workflow allows."""

    exit_code = 4


class WorldError(BeamcastError):
    """The world failed: network, scheduler, node or process. `retry_may_help` says whether to try again."""

    def __init__(
        self,
        message: str,
        *,
        retry_may_help: bool = False,
        hint: str | None = None,
        where: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, where=where)
        self.retry_may_help = retry_may_help


class Terminated(SystemExit):
    """The order to end this process, from a signal. A type of its own, so that a processor which calls `sys.exit`
    is not taken for it."""


def _sentence(message: str, where: str | None, hint: str | None) -> str:
    text = message if where is None else f"{where}: {message}"
    if hint is None:
        return text
    return f"{text} {hint}" if text.endswith((".", "?", "!")) else f"{text}. {hint}"
