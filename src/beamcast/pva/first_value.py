"""What our records show before their first update, so that nobody takes it for one.

The choice: a mark that no frame has. Its id is 0, which a frame may have too, and its time stamp is one nanosecond
after 1970, which no frame has: one without a time has zeros, any other a time of this century. A monitor that follows a
server to its next life by itself gets the record's first value like any update, and has to know it.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

MARK = {"secondsPastEpoch": 0, "nanoseconds": 1, "userTag": 0}
_EMPTY: dict[str, Any] = {"BOOLEAN": False, "STRING": ""}
_SEALED = "sealed"


def mark(update: Any, id_fields: Iterable[str]) -> Any:
    """Make a first value of an object that is ours, and return it; its payload stays, and so does what is sealed, which
    would not open any more. `id_fields`: what may number it."""
    if update.hasField(_SEALED):
        return update
    name = next((each for each in id_fields if update.hasField(each)), None)
    if name is not None:
        update[name] = 0
    if _stamp(update) is not None:
        update["timeStamp"] = MARK
    return update


def is_marked(update: Any) -> bool:
    """Whether this is such a value. One that has no time stamp can't be told from a frame."""
    stamp = _stamp(update)
    return stamp is not None and not stamp.get("secondsPastEpoch") and stamp.get("nanoseconds") == 1


def cleared(update: Any, id_fields: Iterable[str]) -> Any:
    """A first value like an update, without the data of any frame, but for what is sealed."""
    made = mark(update.copy(), id_fields)
    if made.hasField(_SEALED):
        return made
    for name, kind in made.getStructureDict().items():
        if name == "value" and made.hasField("dimension") and isinstance(kind, tuple):
            _clear_image(made)
        elif isinstance(kind, list):
            made[name] = []
        elif hasattr(kind, "name"):
            made[name] = _EMPTY.get(kind.name, 0)
    return made


def _clear_image(array: Any) -> None:
    """An NTNDArray without an image; the type of its elements stays."""
    field = array.getSelectedUnionFieldName("value")
    if field:
        value = array["value"][0][field]
        array["value"] = {field: np.empty(0, dtype=value.dtype if isinstance(value, np.ndarray) else bool)}


def _stamp(update: Any) -> Any:
    stamp = update["timeStamp"] if update.hasField("timeStamp") else None
    return stamp if isinstance(stamp, dict) and "secondsPastEpoch" in stamp else None
