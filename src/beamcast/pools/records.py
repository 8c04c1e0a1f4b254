"""The structure of an output record, and the values that a processor's dictionary may put into it.

pvaccess refuses NumPy's scalars and int64 arrays in a float64 field, and reads a strided array as if it were
contiguous (wrong numbers, no error). So every value is converted by the field's own rule, chosen once.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from beamcast.core.errors import DataError, UsageError

_SCALARS: dict[Any, str] = {float: "DOUBLE", int: "LONG", bool: "BOOLEAN", str: "STRING"}
_ARRAYS: dict[Any, Any] = {float: np.float64, int: np.int64, bool: np.bool_}
RESERVED = ("uniqueId", "timeStamp")


def declared_record(output: Mapping[str, Any]) -> Any:
    """An empty record for a processor's declared `output`, with our id and time in front.

    UsageError for a type that has no pvAccess form.
    """
    import pvaccess

    ours: dict[str, Any] = {"uniqueId": pvaccess.LONG, "timeStamp": pvaccess.PvTimeStamp()}
    for name in RESERVED:
        if name in output:
            raise UsageError(
                f"output field {name!r} is not possible", hint="'uniqueId' and 'timeStamp' are ours"
            )
    return pvaccess.PvObject({**ours, **_structure(output)})


def _structure(output: Mapping[str, Any]) -> dict[str, Any]:
    import pvaccess

    fields: dict[str, Any] = {}
    for name, kind in output.items():
        if isinstance(kind, Mapping):
            fields[name] = _structure(kind)
            continue
        element = _element(kind)
        if element is None:
            raise UsageError(
                f"output field {name!r} of type {kind!r} is not possible",
                hint="use float, int, bool, str, a list of one of them, or a dict of such fields",
            )
        scalar = getattr(pvaccess, _SCALARS[element])
        fields[name] = scalar if kind is element else [scalar]
    return fields


def _element(kind: Any) -> Any:
    if kind in _SCALARS:
        return kind
    arguments: tuple[Any, ...] = getattr(kind, "__args__", ())
    return arguments[0] if len(arguments) == 1 and arguments[0] in _SCALARS else None


def converters(output: Mapping[str, Any]) -> dict[str, Callable[[Any], Any]]:
    """For each declared field what makes a value of it; they raise TypeError or ValueError for one that is none."""
    made: dict[str, Callable[[Any], Any]] = {}
    for name, kind in output.items():
        if isinstance(kind, Mapping):
            made[name] = _nested(converters(kind))
        elif kind in _SCALARS:
            made[name] = _RULES[kind]
        else:
            made[name] = _many(_element(kind))
    return made


def _nested(inner: Mapping[str, Callable[[Any], Any]]) -> Callable[[Any], Any]:
    return lambda given: converted(inner, given)


def converted(rules: Mapping[str, Callable[[Any], Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a dictionary by the rules of its fields; DataError unless it has exactly these fields.

    A field that is left out would keep the value of the frame before.
    """
    if given.keys() != rules.keys():
        missing, extra = sorted(rules.keys() - given.keys()), sorted(map(str, given.keys() - rules.keys()))
        raise DataError(
            "the dict does not have the declared output fields"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; not declared: {', '.join(extra)}" if extra else "")
        )
    try:
        return {name: rule(given[name]) for name, rule in rules.items()}
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"a value of the dict does not fit its declared type: {error}") from error


def _whole(given: Any) -> int:
    number = int(given)
    if number != given:
        raise ValueError(f"{given!r} is not a whole number")
    return number


def _text(given: Any) -> str:
    if not isinstance(given, str):
        raise TypeError(f"{given!r} is not text")
    return given


def _real(given: Any) -> float:
    if isinstance(given, str):
        raise TypeError(f"{given!r} is not a number")
    return float(given)


_RULES: dict[Any, Callable[[Any], Any]] = {float: _real, int: _whole, bool: bool, str: _text}


def _many(element: Any) -> Callable[[Any], Any]:
    if element is str:
        return lambda given: [_text(one) for one in given]
    if element is bool:
        return lambda given: [bool(one) for one in given]
    dtype = _ARRAYS[element]
    return lambda given: np.ascontiguousarray(_safe(np.asarray(given), dtype), dtype=dtype).reshape(-1)


def _safe(array: Any, dtype: Any) -> Any:
    if array.size and not np.can_cast(array.dtype, dtype, "same_kind"):
        raise TypeError(f"an array of {array.dtype} is not one of {np.dtype(dtype)}")
    return array
