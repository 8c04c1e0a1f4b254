"""From what a processor returns to an update of the output channel.

The way is chosen once, when the output record is made; for each frame there is one call. A PvObject (pass-through)
is published as it is: its arrays are shared with the record, not copied.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from beamcast.core.errors import DataError, UsageError
from beamcast.core.ids import split_key
from beamcast.pools.frame import Frame
from beamcast.pva.ndarray import make_ndarray, set_image

_SCALARS = {float: "DOUBLE", int: "LONG", bool: "BOOLEAN", str: "STRING"}


def field_types(output: Mapping[str, Any]) -> dict[str, Any]:
    """The pvAccess structure for a processor's declared `output`; UsageError for a type that has no pvAccess form."""
    import pvaccess

    fields: dict[str, Any] = {"uniqueId": pvaccess.LONG, "timeStamp": pvaccess.PvTimeStamp()}
    for name, kind in output.items():
        element = _element(kind)
        if name in fields or element is None:
            raise UsageError(
                f"output field {name!r} of type {kind!r} is not possible",
                hint="use float, int, bool, str or a list of one of them; 'uniqueId' and 'timeStamp' are ours",
            )
        scalar = getattr(pvaccess, _SCALARS[element])
        fields[name] = scalar if kind is element else [scalar]
    return fields


def _element(kind: Any) -> type | None:
    if kind in _SCALARS:
        return kind  # type: ignore[no-any-return]
    arguments: tuple[Any, ...] = getattr(kind, "__args__", ())
    return arguments[0] if len(arguments) == 1 and arguments[0] in _SCALARS else None


class Output:
    """One output channel of a rank, on the rank's server. Used by the frame loop's thread only."""

    def __init__(self, server: Any, channel: str, *, declared: Mapping[str, Any] | None) -> None:
        self._server = server
        self._channel = channel
        self._declared = declared
        self._fields: Any = None
        self._array: Any = None
        self._pv_type: type = object
        self.published = 0

    def open(self, probe: Any) -> None:
        """Make the record from the probe update, before the first frame."""
        import pvaccess

        self._pv_type = pvaccess.PvObject
        if self._declared is not None:
            structure = field_types(self._declared)
            self._fields = pvaccess.PvObject(structure)
            self._server.addRecord(self._channel, pvaccess.PvObject(structure))
        else:
            self._server.addRecord(self._channel, probe.copy())

    def publish(self, result: Any, frame: Frame) -> None:
        """Publish one result; DataError when it is none of the forms that a processor may return."""
        if isinstance(result, self._pv_type):
            pv = result
        elif isinstance(result, dict):
            pv = self._from_dict(result, frame)
        elif isinstance(result, np.ndarray):
            pv = self._from_array(result, frame)
        else:
            raise DataError(
                f"process() returned {type(result).__name__}",
                hint="return an array, a dict of the declared output fields, a PvObject, or None for no output",
            )
        self._server.updateUnchecked(self._channel, pv)
        self.published += 1

    def _from_dict(self, result: Mapping[str, Any], frame: Frame) -> Any:
        if self._fields is None:
            raise DataError(
                "process() returned a dict, but the processor declares no output fields",
                hint='give the class an attribute such as output = {"total": float}',
            )
        fields = self._fields
        fields["uniqueId"] = split_key(frame.key)[1]
        fields["timeStamp"] = frame.pv["timeStamp"] if frame.pv.hasField("timeStamp") else _now()
        for name, value in result.items():
            fields[name] = value
        return fields

    def _from_array(self, image: Any, frame: Frame) -> Any:
        frame_id = split_key(frame.key)[1]
        if self._array is None:
            self._array = make_ndarray(image, frame_id=frame_id, timestamp_s=frame.timestamp)
        else:
            set_image(self._array, image)
            self._array["uniqueId"] = frame_id
            self._array["timeStamp"] = frame.pv["timeStamp"]
        return self._array


def _now() -> Any:
    import time

    import pvaccess

    return pvaccess.PvTimeStamp(time.time())
