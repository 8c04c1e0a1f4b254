"""Results as lines: for people, and as JSON. Arrays are shown by shape, dtype, minimum and maximum."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from beamcast.core.errors import DataError
from beamcast.pva.results import Result

# Arrays of at most so many values are shown whole.
WHOLE = 8
# Of an NTNDArray, what says something of the image; the rest belongs to the type. `value` is the image.
_NDARRAY = ("attribute",)
_TYPE_ONLY = frozenset(
    ("alarm", "display", "control", "valueAlarm", "descriptor", "timeStamp", "dataTimeStamp")
)


def as_json(result: Result) -> str:
    """One line of JSON: pv, id, time (seconds since 1970, null without one), and the fields."""
    line = {"pv": result.pv, "id": result.id, "time": result.time_s, "value": _content(result)}
    return json.dumps(line, allow_nan=False)


def as_text(result: Result) -> str:
    """One line for people."""
    words = [result.pv, "no id" if result.id is None else f"id {result.id}"]
    if result.time_s is not None:
        words.append(datetime.fromtimestamp(result.time_s, UTC).astimezone().isoformat(" ", "milliseconds"))
    return "  ".join((*words, ", ".join(f"{name} {text}" for name, text in _flat(_content(result)))))


def _content(result: Result) -> dict[str, Any]:
    fields = {name: value for name, value in result.fields.items() if name not in _TYPE_ONLY}
    image = _image(result)
    if image is None:
        return {name: _plain(value) for name, value in fields.items() if not _is_id(name, result)}
    attributes = {each["name"]: _plain(each["value"]) for each in fields.get("attribute", ())}
    return {"image": image, **({"attributes": attributes} if attributes else {})}


def _is_id(name: str, result: Result) -> bool:
    return name == "uniqueId" and result.id is not None


def _image(result: Result) -> Any:
    """What stands for the image; None where the result is no NTNDArray."""
    if not (result.update.hasField("dimension") and result.update.hasField("value")):
        return None
    try:
        return summary(result.image)
    except DataError as error:
        return {"unreadable": error.message}


def summary(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    """An array by its shape, dtype, minimum and maximum; those are null where there are none."""
    ends: list[Any] = [None, None]
    if array.size and array.dtype.kind in "iufb":
        ends = [array.min().item(), array.max().item()]
    smallest, largest = map(_plain, ends)
    return {"shape": list(array.shape), "dtype": str(array.dtype), "min": smallest, "max": largest}


def _plain(value: Any) -> Any:
    """As JSON can hold it; what is no number there, NaN and the infinities, is null."""
    if isinstance(value, tuple):  # a union: its value and its type
        return _plain(next(iter(value[0].values()), None) if value and isinstance(value[0], dict) else None)
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, np.ndarray):
        return summary(value) if value.size > WHOLE else [_plain(one) for one in value.tolist()]
    if isinstance(value, list):
        if len(value) > WHOLE and all(isinstance(one, int | float) for one in value):
            return summary(np.asarray(value))
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _flat(content: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    flat: list[tuple[str, str]] = []
    for name, value in content.items():
        if isinstance(value, Mapping) and not _is_summary(value):
            flat += _flat(value, f"{path}{name}.")
        else:
            flat.append((path + name, _words(value)))
    return flat


def _is_summary(value: Mapping[str, Any]) -> bool:
    return value.keys() == {"shape", "dtype", "min", "max"} or value.keys() == {"unreadable"}


def _words(value: Any) -> str:
    if isinstance(value, Mapping) and "unreadable" in value:
        return f"can't be read: {value['unreadable']}"
    if isinstance(value, Mapping):
        shape = "x".join(map(str, value["shape"]))
        return f"{shape} {value['dtype']} min {_words(value['min'])} max {_words(value['max'])}"
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
