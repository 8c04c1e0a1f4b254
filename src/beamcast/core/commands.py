"""What may be asked of a run while it runs, in the form of PvaPy's control channels: a command and JSON arguments.

The same words go to the whole run, to a pool or to one rank; who asks is answered when it is done everywhere.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from beamcast.core.errors import UsageError

COMMANDS = ("configure", "drain", "get_stats", "reset_stats", "stop")
MAX_ARGUMENT_CHARACTERS = 65536
# A message that repeats what it was given stays one line.
_SHOWN_CHARACTERS = 60

# The last: of a processor without `configure`, which is no trouble where others were meant.
DONE, REFUSED, NOTHING_TO_CONFIGURE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Command:
    """One command that was checked; `values` are the parameters of `configure`, empty for the others."""

    name: str
    values: Mapping[str, object]

    @property
    def arguments(self) -> str:
        """The parameters as JSON, empty where there are none."""
        return json.dumps(dict(self.values)) if self.values else ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command: `code` 0 is done; `stats` is JSON, of `get_stats` alone."""

    code: int
    message: str
    stats: str = ""

    @property
    def done(self) -> bool:
        """Whether it was carried out."""
        return self.code == DONE


def parse_command(name: str, arguments: str) -> Command:
    """The command; UsageError for an unknown name, or arguments that are no JSON object or too long."""
    name = name.strip()
    if name not in COMMANDS:
        near = difflib.get_close_matches(name[:_SHOWN_CHARACTERS], COMMANDS, n=1)
        guess = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"unknown command {_shown(name)} ({guess}known are {', '.join(COMMANDS)})")
    if len(arguments) > MAX_ARGUMENT_CHARACTERS:
        raise UsageError(
            f"args are too long: {len(arguments)} characters, at most {MAX_ARGUMENT_CHARACTERS} are possible"
        )
    if name != "configure":
        return Command(name, {})
    return Command(name, _parameters(arguments))


def parse_line(line: str) -> Command:
    """The same from one text, such as `drain` or `configure {"threshold": 3}`, for clients that write one string."""
    name, _, arguments = line.strip().partition(" ")
    return parse_command(name, arguments.strip())


def _parameters(arguments: str) -> Mapping[str, object]:
    try:
        values = json.loads(arguments)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"args are not JSON: {error}", hint='configure takes an object such as {"threshold": 3}'
        ) from error
    if not isinstance(values, dict):
        raise UsageError(f"args must be a JSON object of parameters, not {_shown(arguments)}")
    return values


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")
