"""Sealed PvObjects: an NTNDArray whose codec says that its payload is ciphertext, or any object sealed as a whole.

Payload: the object stays an NTNDArray, so mirrors, distributors and collectors handle it like any other. Only the
value, the codec's name and the compressed size change. Dimensions, id and both times (and of a compressed image, its
uncompressed size and codec parameters) stay readable and are bound to the payload: changed, it no longer opens. The
codec and the value's type before sealing travel in the head of the payload. Attributes, alarm, display and descriptor
stay readable and are *not* protected.

Object: ``{uniqueId, timeStamp, sealed}``; id and time are readable and bound, all else is inside.

Both functions of a pair change or read the object they are given; it must not be in use elsewhere. Per frame of an
NTNDArray this costs 10 to 20 µs besides the cipher and one copy; each field read costs 0.4 µs, so no field is read
that is not bound.
"""

import struct
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pvaccess
from pvaccess import PvObject

from beamcast.core.errors import DataError
from beamcast.pva.fresh import WORTH_BYTES, FreshArrays
from beamcast.pva.ndarray import FIELD_OF_DTYPE
from beamcast.pva.portable import from_parts, to_parts
from beamcast.security.envelope import Head, Malformed, read_head
from beamcast.security.opening import Opener
from beamcast.security.sealing import Sealer

CODEC = "beamcast.aes256gcm"
SEALED_OBJECT = "beamcast:sealed:1.0"

_DTYPE_OF_FIELD: dict[str, Any] = {field: dtype for dtype, field in FIELD_OF_DTYPE.items()}
_DTYPE_OF_FIELD["booleanValue"] = np.dtype(np.int8)
# Called as functions: to look a method up costs a tenth of the call, and there are a dozen for each frame.
_get_int, _get_long, _get_string = PvObject.getInt, PvObject.getLong, PvObject.getString
_get_union, _get_array = PvObject.getUnion, PvObject.getScalarArray
_get_structures = PvObject.getStructureArray
_set_union, _set_string, _set_long = PvObject.setUnion, PvObject.setString, PvObject.setLong
_READABLE = struct.Struct("<iqiqi")
_STAMP = struct.Struct("<qqi")
_encode = msgspec.msgpack.Encoder().encode


def is_ndarray(pv: Any) -> bool:
    """Whether an object has the fields of an NTNDArray that sealing needs."""
    return all(pv.hasField(name) for name in ("value", "codec.name", "dimension", "uniqueId"))


def holds_image(pv: Any) -> bool:
    """Whether an NTNDArray has a payload: a detector's has none before its first frame. DataError for others."""
    try:
        return bool(pv.getSelectedUnionFieldName("value"))
    except pvaccess.PvaException as error:
        raise _no_ndarray(error) from error


def _no_ndarray(error: Exception) -> DataError:
    return DataError(f"this is not an NTNDArray: {error}", hint='seal other structures with scope = "object"')


class NdArraySealer:
    """Seals NTNDArrays of one stream in place."""

    def __init__(self, sealer: Sealer) -> None:
        self._seal = sealer.seal
        self._fresh = FreshArrays()
        self._field = "ubyteValue"

    def seal(self, pv: Any) -> Any:
        """Seal the payload of `pv` and return it; DataError unless it is an NTNDArray with an unsealed payload."""
        try:
            codec = _get_string(pv, "codec.name")
            flat = self._payload(pv)
            context = _context(pv, codec)
        except pvaccess.PvaException as error:
            raise _no_ndarray(error) from error
        if codec == CODEC:
            raise DataError("the payload is sealed already")
        note = _note(self._field, codec)
        if self._field != "ubyteValue":
            flat = flat.view(np.uint8)
        if flat.nbytes < WORTH_BYTES:
            sealed = self._seal((flat,), note=note, context=context)
            value = self._fresh.copied("ubyteValue", sealed)
        else:
            value, sealed = self._sealed_in_place(flat, note, context)
        _set_union(pv, "value", value)
        _set_string(pv, "codec.name", CODEC)
        _set_long(pv, "compressedSize", sealed.nbytes)
        return pv

    def _payload(self, pv: Any) -> Any:
        """The array of the union, most often in the same field as that of the frame before."""
        try:
            return _get_array(_get_union(pv, "value"), self._field)
        except pvaccess.PvaException:
            field = pv.getSelectedUnionFieldName("value")
            if not field:
                raise DataError("the NTNDArray holds no image") from None
            self._field = field
            return _get_array(_get_union(pv, "value"), self._field)

    def _sealed_in_place(self, flat: Any, note: bytes, context: bytes) -> tuple[Any, Any]:
        """(the new value of the union, its bytes), written by the cipher into the array that is published."""
        made: list[Any] = []

        def into(size_bytes: int) -> Any:
            value, room = self._fresh.make("ubyteValue", size_bytes)
            made.append(value)
            return room

        sealed = self._seal((flat,), note=note, context=context, into=into)
        return made[0], sealed


class NdArrayOpener:
    """Opens NTNDArrays in place."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._fresh = FreshArrays()

    def open(self, pv: Any, *, look_only: bool = False) -> Any:
        """Put the payload that was sealed back into `pv` and return it. `look_only`: as of `Opener.open`.

        SealError when it is not good, DataError when `pv` is no NTNDArray; `pv` is then as it was.
        """
        try:
            field = pv.getSelectedUnionFieldName("value")
            if pv.getString("codec.name") != CODEC or field != "ubyteValue":
                raise Malformed("the payload is not sealed")
            sealed = pv.getUnion("value").getScalarArray(field)
            head = read_head(sealed.data)
            field, codec = _read_note(head.note)
            context = _context(pv, codec)
        except pvaccess.PvaException as error:
            raise _no_ndarray(error) from error
        dtype = _DTYPE_OF_FIELD[field]
        if len(head.parts) != 1 or head.parts[0] % dtype.itemsize:
            raise Malformed(f"the payload is not an array of {dtype}")
        pv.setUnion("value", self._opened(sealed, head, context, field, look_only))
        pv.setString("codec.name", codec)
        pv.setLong("compressedSize", head.parts[0])
        if not codec:
            pv.setLong("uncompressedSize", head.parts[0])
        return pv

    def _opened(self, sealed: Any, head: Head, context: bytes, field: str, look_only: bool) -> Any:
        """The new value of the union. What could not be opened is thrown away with the object it was written to."""
        if head.parts[0] < WORTH_BYTES or field == "booleanValue":
            (part,) = self._opener.open(sealed, head=head, context=context, look_only=look_only).parts
            array = part.view(_DTYPE_OF_FIELD[field])
            # pvaccess takes booleans only as a list.
            if field == "booleanValue":
                return {field: array.astype(bool).tolist()}
            return self._fresh.copied(field, array)
        value, room = self._fresh.make(field, head.parts[0])
        self._opener.open(sealed, head=head, context=context, look_only=look_only, into=room)
        return value


@cache
def _note(field: str, codec: str) -> bytes:
    """What a stream's payloads were before; there are a few kinds in all."""
    return f"{field} {codec}".encode()


def _read_note(note: bytes) -> tuple[str, str]:
    """(value field, codec before sealing); Malformed when the note is not one of ours."""
    try:
        field, _, codec = note.decode().partition(" ")
    except UnicodeDecodeError as error:
        raise Malformed("the note of the sealed payload is not text") from error
    if field not in _DTYPE_OF_FIELD:
        raise Malformed(f"the sealed payload names no field of an NTNDArray: {field!r}")
    return field, codec


def _context(pv: Any, codec: str) -> bytes:
    """The readable fields that belong to the payload."""
    readable = _READABLE.pack(
        _get_int(pv, "uniqueId"),
        _get_long(pv, "timeStamp.secondsPastEpoch"),
        _get_int(pv, "timeStamp.nanoseconds"),
        _get_long(pv, "dataTimeStamp.secondsPastEpoch"),
        _get_int(pv, "dataTimeStamp.nanoseconds"),
    )
    fields = readable + _encode(_get_structures(pv, "dimension"))
    # Of use for a compressed image only; areaDetector puts the element type into the parameters.
    return (
        fields + repr((pv.getLong("uncompressedSize"), pv["codec.parameters"])).encode() if codec else fields
    )


class ObjectSealer:
    """Seals whole objects of any structure."""

    def __init__(self, sealer: Sealer) -> None:
        self._seal = sealer.seal
        structure = {
            "uniqueId": pvaccess.LONG,
            "timeStamp": pvaccess.PvTimeStamp(),
            "sealed": [pvaccess.UBYTE],
        }
        self._blank = pvaccess.PvObject(structure, SEALED_OBJECT)

    def seal(self, pv: Any, *, frame_id: int) -> Any:
        """A new object with all of `pv` sealed inside; its id is `frame_id`, its time that of `pv` (0 if none)."""
        sealed = self._blank.copy()
        sealed.setLong("uniqueId", frame_id)
        if pv.hasField("timeStamp.nanoseconds"):
            sealed["timeStamp"] = pv["timeStamp"]
        sealed.setScalarArray("sealed", self._seal(to_parts(pv), context=_stamp(sealed)))
        return sealed


class ObjectOpener:
    """Opens whole objects."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener

    def open(self, pv: Any, *, look_only: bool = False) -> Any:
        """The object that was sealed into `pv`; SealError when it is not good, DataError when it is no object."""
        try:
            sealed, context = pv.getScalarArray("sealed"), _stamp(pv)
        except pvaccess.PvaException as error:
            raise DataError(f"this is not a sealed object: {error}") from error
        if not isinstance(sealed, np.ndarray) or sealed.dtype != np.uint8:
            raise Malformed("the field 'sealed' does not hold bytes")
        return from_parts(self._opener.open(sealed, context=context, look_only=look_only).parts)


def _stamp(pv: Any) -> bytes:
    return _STAMP.pack(
        pv.getLong("uniqueId"), pv.getLong("timeStamp.secondsPastEpoch"), pv.getInt("timeStamp.nanoseconds")
    )
