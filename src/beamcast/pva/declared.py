"""Structures that a workflow file declares: field names with type names such as "double", "int[]" or "time"."""

from collections.abc import Mapping
from typing import Any

from beamcast.core.errors import UsageError

# Type names as pvAccess has them, and how pvaccess calls them.
SCALARS = {
    "boolean": "BOOLEAN",
    "byte": "BYTE",
    "ubyte": "UBYTE",
    "short": "SHORT",
    "ushort": "USHORT",
    "int": "INT",
    "uint": "UINT",
    "long": "LONG",
    "ulong": "ULONG",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "STRING",
}
TIME = "time"


def declared_object(fields: Mapping[str, object]) -> Any:
    """An empty PvObject of the declared structure; UsageError for a type that there is not."""
    import pvaccess

    return pvaccess.PvObject(_structure(fields))


def _structure(fields: Mapping[str, object]) -> dict[str, Any]:
    import pvaccess

    made: dict[str, Any] = {}
    for name, kind in fields.items():
        if isinstance(kind, Mapping):
            made[name] = _structure(kind)
        elif kind == TIME:
            made[name] = pvaccess.PvTimeStamp()
        elif isinstance(kind, str) and kind.removesuffix("[]") in SCALARS:
            scalar = getattr(pvaccess, SCALARS[kind.removesuffix("[]")])
            made[name] = [scalar] if kind.endswith("[]") else scalar
        else:
            raise UsageError(
                f"field {name!r} has no type {kind!r}", hint=f"types are {', '.join(SCALARS)}, time"
            )
    return made
