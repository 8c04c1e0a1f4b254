"""From what a processor returns to an update of an output channel.

The records are made before the first frame, from what the processor says that it returns: a record whose structure
changes would cut off whoever reads it. A PvObject (pass-through) is published as it is: its arrays are shared with
the record, not copied. Every update is checked against the record's structure; that costs nothing that can be
measured (pvapy 5.6), and the unchecked call crashes the interpreter when they differ.

A processor with several outputs has one channel for each, `…:output`, `…:output:1` and so on. So ids stay unique on
each channel, and neither the distributor nor a collector takes one output for a repetition of the other.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from beamcast.core.errors import DataError
from beamcast.pools.frame import Frame
from beamcast.pools.output_seal import PoolSealer, SealUpdate
from beamcast.pools.records import converted, converters
from beamcast.pva.first_value import mark
from beamcast.pva.ndarray import MAX_FRAME_ID, make_ndarray, set_image

Publish = Callable[[Any, Frame], None]
# Gets what is published: its frame's key, None where the processor publishes by itself, and the object.
Tap = Callable[[int | None, Any], None]
First = Callable[[Any], None]


def output_channels(channel: str, count: int) -> tuple[str, ...]:
    """The channels of a processor with `count` outputs."""
    return (channel, *(f"{channel}:{number}" for number in range(1, count)))


class Branch:
    """One output channel of a rank, on the rank's server. `fields`: the declared fields of its dictionaries."""

    def __init__(
        self,
        server: Any,
        channel: str,
        *,
        record: Any,
        fields: Mapping[str, Any] | None,
        tap: Tap | None = None,
        seal: PoolSealer | None = None,
        first: First | None = None,
    ) -> None:
        """`seal` seals what is published, and so what the record shows first."""
        import pvaccess

        self._tap = tap
        self._seal: SealUpdate | None = None
        self.record = record
        if seal is not None:
            self.record, self._seal = seal.fit(record)
        self._first = first
        self._channel = channel
        self._update = server.update
        self._pv_type: type = pvaccess.PvObject
        self._values: Any = record.copy() if fields is not None else None
        self._rules = converters(fields) if fields is not None else {}
        self._array: Any = None
        server.addRecord(channel, self.record.copy())

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
        self.send(pv, frame.key)

    def send(self, pv: Any, key: int | None = None) -> None:
        """Publish a PvObject; DataError when it is not of the record's structure."""
        if self._seal is not None:
            pv = self._seal(pv, key)
        if self._first is not None:
            self._first(pv)
        try:
            self._update(self._channel, pv)
        except ValueError as error:
            raise DataError(
                f"the result does not have the structure of the output record: {error}",
                hint="say what you return: `output = numpy.ndarray` for images, or a method output_type(probe)",
            ) from error
        if self._tap is not None:
            self._tap(key, pv)

    def _from_dict(self, result: Mapping[str, Any], frame: Frame) -> Any:
        if self._values is None:
            raise DataError(
                "process() returned a dict, but the processor declares no output fields",
                hint='give the class an attribute such as output = {"total": float}',
            )
        values = self._values
        for name, value in converted(self._rules, result).items():
            values[name] = value
        values["uniqueId"] = frame.id
        values["timeStamp"] = frame.stamp
        return values

    def _from_array(self, image: Any, frame: Frame) -> Any:
        if frame.id > MAX_FRAME_ID:
            raise DataError(f"frame id {frame.id} does not fit into an NTNDArray, whose ids have 32 bits")
        if self._array is None:
            timestamp_s = frame.timestamp
            known = timestamp_s == timestamp_s
            self._array = make_ndarray(
                image, frame_id=frame.id, timestamp_s=timestamp_s if known else time.time()
            )
            return self._array
        set_image(self._array, image)
        self._array["uniqueId"] = frame.id
        self._array["timeStamp"] = self._array["dataTimeStamp"] = frame.stamp
        return self._array


class Output:
    """All output channels of a rank. Used by the frame loop's thread; a PvaPy processor may use `send` from its own."""

    def __init__(
        self,
        server: Any,
        channel: str,
        *,
        count: int = 1,
        records: Callable[[Any], Sequence[Any]],
        fields: Sequence[Mapping[str, Any] | None],
        tap: Tap | None = None,
        seal: PoolSealer | None = None,
        first: First | None = None,
        id_fields: Sequence[str] = (),
    ) -> None:
        """`records(probe)` gives the PvObjects that the `count` records are made like, `fields` the declared fields
        of each, None where no dictionary is returned. `tap` gets what is published on the first channel,
        `first` gets it before that. `seal` seals what is published. `id_fields` may number it, besides `uniqueId`."""
        self._server = server
        self._records = records
        self._fields = fields
        self._tap = tap
        self._seal = seal
        self._first = first
        self._id_fields = ("uniqueId", *id_fields)
        self._branches: list[Branch] = []
        self.channels = output_channels(channel, count)
        self.published = 0
        self.publish: Publish = self._publish_one if count == 1 else self._publish_several

    def open(self, probe: Any) -> Any:
        """Make the records, `probe` being an update of the input, before the first frame; gives the first. A reader
        that sees one before that must not take it for a frame's result."""
        made = [mark(record.copy(), self._id_fields) for record in self._records(probe)]
        self._branches = [
            Branch(self._server, channel, record=record, fields=fields,
                   tap=None if number else self._tap, first=None if number else self._first,
                   seal=self._seal)
            for number, (channel, record, fields) in enumerate(
                zip(self.channels, made, self._fields, strict=True)
            )
        ]  # fmt: skip
        return self._branches[0].record

    def send(self, pv: Any) -> None:
        """Publish a PvObject on the first channel; DataError when it has another structure than the record."""
        self._branches[0].send(pv)
        self.published += 1

    def _publish_one(self, result: Any, frame: Frame) -> None:
        self._branches[0].publish(result, frame)
        self.published += 1

    def _publish_several(self, results: Any, frame: Frame) -> None:
        count = len(self._branches)
        if (
            not isinstance(results, list | tuple)
            or len(results) != count
            or any(one is None for one in results)
        ):
            raise DataError(
                f"process() has to return a list or tuple of {count} results, since outputs = {count}",
                hint="or None for no output at all",
            )
        for branch, result in zip(self._branches, results, strict=True):
            branch.publish(result, frame)
        self.published += 1
