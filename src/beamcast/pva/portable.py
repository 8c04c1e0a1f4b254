"""Any PvObject as bytes and back, without pickle: what arrives can make values of pvAccess types and nothing else.

The first part is msgpack: a version, the structure, the values, the type ids. Every type has an explicit code in a
table; values are read by the structure that came with them and nothing else decides what is made. Long numeric
arrays are parts of their own, so that they are neither copied on the way out nor parsed on the way in.

Kept: every field, its type and order, unions and what is selected in them, the type ids of an NTNDArray. Lost: the
type ids of other structures, which pvaccess can set but not tell. Refused, since pvaccess can't read them: text that
is not UTF-8 and a scalar of type byte that is not ASCII (arrays of bytes are fine).
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pvaccess
from numpy.typing import NDArray

from beamcast.core.errors import DataError

Bytes = NDArray[np.uint8]

VERSION = 1
# Shorter arrays travel inside the msgpack part: one more part costs more than copying a few pages.
MIN_PART_BYTES = 1 << 14
# pvAccess structures are a few levels deep; deeper ones are made to exhaust the stack.
MAX_DEPTH = 32

# The code is part of the format: never change one, add at the end. Strings have no dtype, booleans travel as int8.
_TYPES: dict[int, tuple[str, str | None]] = {
    0: ("BOOLEAN", "i1"),
    1: ("BYTE", "<i1"),
    2: ("UBYTE", "<u1"),
    3: ("SHORT", "<i2"),
    4: ("USHORT", "<u2"),
    5: ("INT", "<i4"),
    6: ("UINT", "<u4"),
    7: ("LONG", "<i8"),
    8: ("ULONG", "<u8"),
    9: ("FLOAT", "<f4"),
    10: ("DOUBLE", "<f8"),
    11: ("STRING", None),
}
_TYPE_OF_CODE = {code: getattr(pvaccess, name) for code, (name, _) in _TYPES.items()}
_CODE_OF_TYPE = {kind: code for code, kind in _TYPE_OF_CODE.items()}
_DTYPE_OF_TYPE = {
    _TYPE_OF_CODE[code]: np.dtype(text) for code, (_, text) in _TYPES.items() if text is not None
}
# A scalar byte is a character to pvaccess, unless it is unsigned.
_PYTHON_OF_CODE: dict[int, type] = {0: bool, 1: str, 9: float, 10: float, 11: str}
_PYTHON_OF_TYPE = {kind: _PYTHON_OF_CODE.get(code, int) for code, kind in _TYPE_OF_CODE.items()}
# What pickle would be told about a blank one is the only place that has the ids.
_NDARRAY_STRUCTURE, _, *_NDARRAY_IDS = pvaccess.NtNdArray().__reduce__()[1]


class NotPortable(DataError):
    """The object can't be made into bytes, or the bytes are not an object that `to_parts` made."""


def to_parts(pv: Any) -> list[Bytes]:
    """The object as parts: the first describes it, the others are its long arrays (views, not copied).

    NotPortable for an object that pvaccess can't read whole.
    """
    structure = pv.getStructureDict()
    parts: list[Bytes] = [np.empty(0, np.uint8)]
    try:
        values = pv.toDict()
    except UnicodeDecodeError as error:
        raise NotPortable("the object holds text that is not UTF-8, or a scalar byte above 127") from error
    type_id, field_ids = _NDARRAY_IDS if structure == _NDARRAY_STRUCTURE else ("", {})
    packed = [VERSION, _pack_type(structure), _pack(structure, values, parts), type_id, field_ids]
    parts[0] = np.frombuffer(msgspec.msgpack.encode(packed), np.uint8)
    return parts


def from_parts(parts: Sequence[Bytes]) -> Any:
    """The object of `to_parts`, with copies of all arrays; NotPortable when the parts are not one."""
    try:
        packed = msgspec.msgpack.decode(parts[0].tobytes())
        version, packed_structure, packed_values, type_id, field_ids = packed
        if version != VERSION:
            raise NotPortable(f"the object has format {version}, we read {VERSION}")
        structure = _unpack_struct_type(packed_structure, MAX_DEPTH)
        values = _unpack(structure, packed_values, parts)
        return pvaccess.PvObject(structure, values, _text(type_id), _checked_ids(field_ids))
    except NotPortable:
        raise
    except (
        msgspec.DecodeError,
        pvaccess.PvaException,
        ValueError,
        TypeError,
        LookupError,
        RecursionError,
    ) as error:
        raise NotPortable(f"the bytes are not an object: {error}") from error


def _checked_ids(field_ids: Any) -> dict[str, str]:
    if type(field_ids) is not dict:
        raise NotPortable("the type ids of the fields are not one for each")
    return {_text(name): _text(type_id) for name, type_id in field_ids.items()}


def _text(value: Any) -> str:
    if type(value) is not str:
        raise NotPortable(f"{type(value).__name__} came where a name belongs")
    return value


# A type in pvaccess's notation: a scalar code, {fields}, [element], (fields,) for a union, () for any.


def _pack_type(kind: Any) -> Any:
    if isinstance(kind, dict):
        return {name: _pack_type(inner) for name, inner in kind.items()}
    if isinstance(kind, list):
        return ["array", _pack_type(kind[0])]
    if isinstance(kind, tuple):
        return ["union", _pack_type(kind[0])] if kind else ["any"]
    return _CODE_OF_TYPE[kind]


def _unpack_struct_type(packed: Any, depth: int) -> dict[str, Any]:
    if type(packed) is not dict or depth == 0:
        raise NotPortable("a structure is not one, or lies too deep")
    return {_text(name): _unpack_type(inner, depth - 1) for name, inner in packed.items()}


def _unpack_type(packed: Any, depth: int) -> Any:
    if depth == 0:
        raise NotPortable("the structure is too deep")
    match packed:
        case bool():
            raise NotPortable("a truth value is not a type")
        case int():
            return _TYPE_OF_CODE[packed]
        case dict():
            return _unpack_struct_type(packed, depth)
        case ["array", element]:
            return [_unpack_type(element, depth - 1)]
        case ["union", dict() as fields]:
            return (_unpack_struct_type(fields, depth - 1),)
        case ["any"]:
            return ()
    raise NotPortable("a type is not in the table")


def _pack(kind: Any, value: Any, parts: list[Bytes]) -> Any:
    if isinstance(kind, dict):
        return [_pack(inner, value[name], parts) for name, inner in kind.items()]
    if isinstance(kind, tuple):
        return _pack_union(value, parts)
    if not isinstance(kind, list):
        return value
    if _is_numeric(kind[0]):
        return _pack_array(np.ascontiguousarray(value, _DTYPE_OF_TYPE[kind[0]]), parts)
    return [_pack(kind[0], one, parts) for one in value]


def _is_numeric(element: Any) -> bool:
    """Whether an array of such elements is a NumPy array: not for structures, unions and strings."""
    return not isinstance(element, dict | tuple) and element in _DTYPE_OF_TYPE


def _pack_array(array: NDArray[Any], parts: list[Bytes]) -> Any:
    if array.nbytes < MIN_PART_BYTES:
        return array.tobytes()
    parts.append(array.view(np.uint8))
    return len(parts) - 1


def _pack_union(value: Any, parts: list[Bytes]) -> Any:
    """What is selected travels with its own type, as pvaccess gives it; None for nothing."""
    chosen, kind = value
    return [_pack_type(kind), _pack(kind, chosen, parts)] if kind else None


def _unpack(kind: Any, packed: Any, parts: Sequence[Bytes]) -> Any:
    if isinstance(kind, dict):
        return {
            name: _unpack(inner, one, parts) for (name, inner), one in zip(kind.items(), packed, strict=True)
        }
    if isinstance(kind, tuple):
        return _unpack_union(packed, parts)
    if isinstance(kind, list):
        return _unpack_list(kind[0], packed, parts)
    if type(packed) is not _PYTHON_OF_TYPE[kind]:
        raise NotPortable(f"{type(packed).__name__} came where {kind} belongs")
    return packed


def _unpack_union(packed: Any, parts: Sequence[Bytes]) -> Any:
    if packed is None:
        return ({}, {})
    packed_kind, value = packed
    kind = _unpack_struct_type(packed_kind, MAX_DEPTH)
    return (_unpack(kind, value, parts), kind)


def _unpack_list(element: Any, packed: Any, parts: Sequence[Bytes]) -> Any:
    if not _is_numeric(element):
        if type(packed) is not list:
            raise NotPortable(f"{type(packed).__name__} came where a list belongs")
        return [_unpack(element, one, parts) for one in packed]
    if type(packed) is int and not 0 < packed < len(parts):
        raise NotPortable(f"there is no part {packed}")
    array = np.frombuffer(parts[packed] if type(packed) is int else packed, _DTYPE_OF_TYPE[element])
    # pvaccess takes booleans only as a list.
    return array.astype(bool).tolist() if element == pvaccess.BOOLEAN else array
