"""How the id of a frame is read out of an update."""

from collections.abc import Callable
from operator import itemgetter, methodcaller
from typing import Any

_TYPED_GETTERS = {
    "BYTE": "getByte",
    "UBYTE": "getUByte",
    "SHORT": "getShort",
    "USHORT": "getUShort",
    "INT": "getInt",
    "UINT": "getUInt",
    "LONG": "getLong",
    "ULONG": "getULong",
}


def id_reader(probe: Any, name: str) -> Callable[[Any], Any]:
    """How to read field `name` ("a.b" for a nested one) of updates that look like `probe`.

    The getter of the field's own integer type takes a third of the time of ``pv[name]`` (pvapy 5.6).
    """
    field: Any = probe.getStructureDict()
    for step in name.split("."):
        field = field.get(step) if isinstance(field, dict) else None
    getter = _TYPED_GETTERS.get(getattr(field, "name", ""))
    return methodcaller(getter, name) if getter else itemgetter(name)
