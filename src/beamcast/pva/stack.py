"""Several small images as one NTNDArray: made by the dispatching mirror, read by a rank.

The cost of a message hardly depends on its size as long as images are small, so that sixteen of them in one message
come nearly for the price of one. The object stays an NTNDArray: its value are the images one behind the other, it has
one dimension more, and the field `stack` says whose frames they are. What an areaDetector plugin shows of it is a
stack of images.

Ids, both times and the attributes of each frame travel along. The fields that describe a channel and not a frame
(`alarm`, `display`, `descriptor`) are those of the first frame that came, and `userTag` is left out. An image of
another shape or type begins another stack; one that is compressed travels alone.

Each payload is copied once into the buffer of the stack; pvaccess copies that once more when it becomes a message.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pvaccess

from beamcast.core.errors import DataError
from beamcast.core.ids import ID_MASK
from beamcast.pva.fields import monitor_request
from beamcast.pva.ndarray import Image, image_view

_NS_PER_S = 1_000_000_000
_FIELD = "stack"
_STRUCTURE = {
    "ids": [pvaccess.LONG],
    "times_ns": [pvaccess.LONG],
    "data_times_ns": [pvaccess.LONG],
    # Attributes of each frame, of which `attribute` holds all one behind the other; empty where no frame has any.
    "attributes": [pvaccess.INT],
}
_NEEDED = (
    "value",
    "codec.name",
    "dimension",
    "timeStamp.nanoseconds",
    "dataTimeStamp.nanoseconds",
    "attribute",
)
# pvaccess tells type ids of nothing but a blank one of its own.
_TYPE_ID, _FIELD_IDS = pvaccess.NtNdArray().__reduce__()[1][2:]
# What reading a field of an object raises that is no such NTNDArray.
UNFIT = (pvaccess.PvaException, ValueError)


def stack_request(id_field: str, *, queue: int) -> str:
    """The pvRequest for what a `StackWriter` reads of a frame: a fourth less work for both ends than for all of it."""
    fields = ["value", "codec", "compressedSize", "uncompressedSize", "dimension", "attribute"]
    fields += [id_field.partition(".")[0], "timeStamp", "dataTimeStamp"]
    return monitor_request(*fields, queue=queue)


class StackWriter:
    """Stacks for one pool, one after the other. One thread at a time.

    `add` frames until it refuses, or there are as many as there may be; `message` gives them and begins the next.
    """

    def __init__(self, probe: Any, *, id_field: str, frames: int) -> None:
        """`probe`: a frame of the stream. `frames`: how many a stack may hold.

        Raises:
            DataError: the frames are no NTNDArray.
        """
        missing = [name for name in _NEEDED if not probe.hasField(name)]
        if missing:
            raise DataError(
                f"frames without the field {missing[0]!r} can't be stacked",
                hint="batch is for NTNDArray frames; leave it out for this source",
            )
        structure = {**probe.getStructureDict(), _FIELD: _STRUCTURE}
        values = {name: value for name, value in probe.toDict().items() if name not in ("value", "attribute")}
        self._blank = _typed(structure, values)
        self._message = self._blank.copy()
        self._id_field = id_field
        self._most = frames
        self._head: Any = None
        self._shown: Any = None  # the head and the number of frames that the message shows
        self._buffer: Image = np.empty((0, 0), np.uint8)
        self._ids: list[int] = []
        self._times: list[int] = []  # four of each frame
        self._attributes: list[int] = []
        self._values: list[Any] = []
        self._has_attributes = False  # whether the message shows any

    def __len__(self) -> int:
        """Frames in the stack."""
        return len(self._ids)

    def add(self, frame_id: int, pv: Any) -> bool:
        """Copy a frame into the stack. False when it has to begin another one: `message` first, then again.

        Raises:
            One of UNFIT when the object is no NTNDArray as the probe was.
        """
        field = pv.getSelectedUnionFieldName("value")
        dimensions = pv.getStructureArray("dimension")
        if not field or pv.getString("codec.name"):
            return not self._ids and self._add_alone(frame_id, pv)
        flat = pv.getUnion("value").getScalarArray(field)
        head = (field, flat.size, dimensions)
        count = len(self._ids)
        if count:
            if head != self._head or count == self._most:
                return False
        elif head != self._head:
            self._begin(head, flat)
        self._buffer[count] = flat
        self._note(frame_id, pv)
        return True

    def message(self) -> Any:
        """The stack as an object to be published; good until the next call. The next stack begins empty."""
        message, count = self._message, len(self._ids)
        if self._head is not None:
            flat = self._buffer[:count].reshape(-1)
            message.setUnion("value", {self._head[0]: flat})
            if self._shown != (self._head, count):
                self._shape(message, count, flat.nbytes)
        self._label(message, count)
        return message

    def _shape(self, message: Any, count: int, size_bytes: int) -> None:
        third = {"size": count, "offset": 0, "fullSize": count, "binning": 1, "reverse": False}
        message.setStructureArray("dimension", [*self._head[2], third])
        message.setLong("compressedSize", size_bytes)
        message.setLong("uncompressedSize", size_bytes)
        self._shown = (self._head, count)

    def forget(self) -> None:
        """Leave out what is in the stack."""
        self._clear()

    def _add_alone(self, frame_id: int, pv: Any) -> bool:
        """A compressed image, whose bytes are shared; nothing can be added to it."""
        message = self._message = self._blank.copy()
        message.setUnion("value", pv.getUnion("value"))
        message.setString("codec.name", pv.getString("codec.name"))
        message["codec.parameters"] = pv["codec.parameters"]
        message.setStructureArray("dimension", pv.getStructureArray("dimension"))
        message.setLong("compressedSize", pv.getLong("compressedSize"))
        message.setLong("uncompressedSize", pv.getLong("uncompressedSize"))
        self._head = self._shown = None
        self._note(frame_id, pv)
        return True

    def _begin(self, head: Any, flat: Image) -> None:
        if self._head is None:
            self._message = self._blank.copy()
        self._head = head
        if self._buffer.shape[1] != flat.size or self._buffer.dtype != flat.dtype:
            self._buffer = np.empty((self._most, flat.size), flat.dtype)

    def _note(self, frame_id: int, pv: Any) -> None:
        self._ids.append(frame_id & ID_MASK)
        get_long, get_int = pv.getLong, pv.getInt
        self._times += (
            get_long("timeStamp.secondsPastEpoch"),
            get_int("timeStamp.nanoseconds"),
            get_long("dataTimeStamp.secondsPastEpoch"),
            get_int("dataTimeStamp.nanoseconds"),
        )
        attributes = pv.getStructureArray("attribute")
        self._attributes.append(len(attributes))
        self._values += attributes

    def _label(self, message: Any, count: int) -> None:
        times = np.array(self._times, np.int64).reshape(count, 4)
        set_array = message.setScalarArray
        set_array(f"{_FIELD}.ids", np.array(self._ids, np.int64))
        set_array(f"{_FIELD}.times_ns", times[:, 0] * _NS_PER_S + times[:, 1])
        set_array(f"{_FIELD}.data_times_ns", times[:, 2] * _NS_PER_S + times[:, 3])
        if self._values or self._has_attributes:
            set_array(f"{_FIELD}.attributes", np.array(self._attributes if self._values else [], np.int32))
            message["attribute"] = self._values
            self._has_attributes = bool(self._values)
        _set_id(message, self._id_field, self._ids[0])
        _set_times(message, self._times[:4])
        self._clear()

    def _clear(self) -> None:
        self._ids, self._times, self._attributes, self._values = [], [], [], []


class Stack:
    """A stack as a rank has received it. Images are views of the message and stay valid without it."""

    __slots__ = ("_data_times_ns", "_made", "_pv", "_template", "ids", "images", "times_ns")

    def __init__(self, pv: Any, template: "FrameTemplate") -> None:
        """Read a message of a `StackWriter`.

        Raises:
            DataError: the object is no such message, or its parts do not fit together.
        """
        try:
            self.ids: list[int] = pv.getScalarArray(f"{_FIELD}.ids").tolist()
            self.times_ns: list[int] = pv.getScalarArray(f"{_FIELD}.times_ns").tolist()
            self._data_times_ns: list[int] = pv.getScalarArray(f"{_FIELD}.data_times_ns").tolist()
            compressed = bool(pv.getString("codec.name")) or not pv.getSelectedUnionFieldName("value")
        except UNFIT as error:
            raise DataError(f"this is not a stack of frames: {error}") from error
        self.images: Image | None = None if compressed else image_view(pv)
        """Read-only, of shape (frames, rows, columns); None for a single compressed frame."""
        count = 1 if self.images is None else len(self.images)
        if not len(self.ids) == len(self.times_ns) == len(self._data_times_ns) == count:
            raise DataError(
                f"a stack of {count} images has {len(self.ids)} ids and {len(self.times_ns)} times"
            )
        self._pv = pv
        self._template = template
        self._made: dict[int, Any] = {}

    def __len__(self) -> int:
        """Frames."""
        return len(self.ids)

    def image(self, index: int) -> Image:
        """One image. A compressed one is decoded; DataError as in `image_view`."""
        return image_view(self._pv) if self.images is None else self.images[index]

    def pv(self, index: int) -> Any:
        """One frame as an object such as the source sends, made when it is first asked for: 0.1 to 0.3 ms."""
        made = self._made.get(index)
        if made is None:
            made = self._made[index] = self._template.made(self._pv)
            self._fill(made, index)
        return made

    def _fill(self, pv: Any, index: int) -> None:
        if self.images is not None:
            field = self._pv.getSelectedUnionFieldName("value")
            flat = self.images[index].reshape(-1)
            pv.setUnion("value", {field: flat})
            pv.setStructureArray("dimension", self._pv.getStructureArray("dimension")[:-1])
            pv.setLong("compressedSize", flat.nbytes)
            pv.setLong("uncompressedSize", flat.nbytes)
        else:
            pv.setUnion("value", self._pv.getUnion("value"))
        counts = self._pv.getScalarArray(f"{_FIELD}.attributes").tolist()
        before = sum(counts[:index])
        pv["attribute"] = self._pv["attribute"][before : before + counts[index]] if counts else []
        _set_id(pv, self._template.id_field, self.ids[index])
        seconds, nanoseconds = divmod(self.times_ns[index], _NS_PER_S)
        data_seconds, data_nanoseconds = divmod(self._data_times_ns[index], _NS_PER_S)
        _set_times(pv, (seconds, nanoseconds, data_seconds, data_nanoseconds))


class FrameTemplate:
    """The structure of the source's own frames, from any message of a stream of stacks."""

    def __init__(self, message: Any, *, id_field: str) -> None:
        """DataError when the message is no stack."""
        if not message.hasField(f"{_FIELD}.ids"):
            raise DataError("this is not a stack of frames")
        structure = message.getStructureDict()
        self.id_field = id_field
        self._structure = {name: kind for name, kind in structure.items() if name != _FIELD}

    def made(self, message: Any) -> Any:
        """A new frame with what all frames of the message have in common."""
        left_out = ("value", "attribute", _FIELD)
        values = {name: value for name, value in message.toDict().items() if name not in left_out}
        return _typed(self._structure, values)


def _typed(structure: dict[str, Any], values: dict[str, Any]) -> Any:
    field_ids = {name: field_id for name, field_id in _FIELD_IDS.items() if name in structure}
    return pvaccess.PvObject(structure, values, _TYPE_ID, field_ids)


def _set_id(pv: Any, field: str, frame_id: int) -> None:
    # An int32 id that wrapped is negative, and stands modulo 2^48 in keys.
    whole = frame_id if frame_id <= ID_MASK >> 1 else frame_id - (ID_MASK + 1)
    pv[field] = whole


def _set_times(pv: Any, times: Sequence[int]) -> None:
    pv.setLong("timeStamp.secondsPastEpoch", times[0])
    pv.setInt("timeStamp.nanoseconds", times[1])
    pv.setLong("dataTimeStamp.secondsPastEpoch", times[2])
    pv.setInt("dataTimeStamp.nanoseconds", times[3])
