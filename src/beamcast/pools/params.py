"""Parameters from a file or a control PV against the signature of the user's code.

The annotations are taken at their word: `threshold: float` takes 3 and 3.5, refuses "3"; msgspec's constraints and
our quantities (`Seconds`) work. A type that can't be checked lets every value through.
"""

import difflib
import inspect
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from beamcast.config.units import dec_hook
from beamcast.core.errors import UsageError


def checked_arguments(
    function: Callable[..., Any], given: Mapping[str, object], *, what: str
) -> dict[str, Any]:
    """`given`, converted to the types that `function` (or the constructor of a class) asks for.

    UsageError that names all problems: a name that it does not take (with the nearest that it takes), one that is
    missing, a value that does not fit its annotation. `what` begins the message.
    """
    wanted = {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    open_ended = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())
    problems = [] if open_ended else [_unknown(name, wanted) for name in given if name not in wanted]
    problems += [
        f"parameter {name!r} is missing"
        for name, parameter in wanted.items()
        if parameter.default is parameter.empty and name not in given
    ]
    hints, values = _hints(function), dict(given)
    for name in given:
        try:
            values[name] = _converted(given[name], hints.get(name, Any))
        except ValueError as error:
            problems.append(f"parameter {name!r} = {given[name]!r}: {error}")
    if problems:
        raise UsageError(f"{what}: {'; '.join(problems)}")
    return values


def _unknown(name: str, wanted: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, wanted, n=1)
    takes = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(wanted) or 'no parameters'}"
    return f"unknown parameter {name!r} ({takes})"


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    annotated = function.__init__ if inspect.isclass(function) else function
    try:
        return typing.get_type_hints(annotated, include_extras=True)
    except Exception:  # noqa: BLE001 - annotations are the user's code: a name that is gone only costs the check
        return {}


def _converted(value: object, hint: Any) -> Any:
    if hint is Path and isinstance(value, str):
        return Path(value)
    try:
        return msgspec.convert(value, hint, dec_hook=dec_hook)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    except (TypeError, NotImplementedError):  # not a type that msgspec knows
        return value
