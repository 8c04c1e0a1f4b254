"""Frames that arrive in stacks (`batch` in the workflow): each is a view of its stack, processed like any other.

A processor with `process_batch` gets the frames of one stack in one call, so that `beamcast.pools.frame.stack` of them
is a view of what was received, without a copy.
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from beamcast.core.ids import FrameKey
from beamcast.core.times import has_time
from beamcast.pools.consumer import ConsumerLoop
from beamcast.pools.frame import NO_METADATA, Frame
from beamcast.pools.inputs import MonitoredChannel
from beamcast.pva.ndarray import ImageReader
from beamcast.pva.stack import FrameTemplate, Stack

_NS_PER_S = 1_000_000_000


class StackedFrame(Frame):
    """One frame of a stack. Its `pv` is made when it is first asked for."""

    __slots__ = ("_index", "_stack")

    def __init__(
        self, stack: Stack, index: int, key: FrameKey, metadata: Mapping[str, Any] = NO_METADATA
    ) -> None:
        self.key = key
        self.metadata = metadata
        self._stack = stack
        self._index = index

    @property
    def pv(self) -> Any:
        """The frame as an object such as the source sends."""
        return self._stack.pv(self._index)

    @property
    def image(self) -> NDArray[Any]:
        """The image as a read-only view of its stack; a compressed one is decoded each time this is read."""
        return self._stack.image(self._index)

    @property
    def timestamp(self) -> float:
        """Time of the frame in seconds since the POSIX epoch; NaN where it was never set."""
        seconds, nanoseconds = divmod(self._stack.times_ns[self._index], _NS_PER_S)
        return float(seconds + nanoseconds * 1e-9) if has_time(seconds, nanoseconds) else math.nan

    @property
    def stamp(self) -> Any:
        """The same as a field of an output takes it; now, where it was never set."""
        seconds, nanoseconds = divmod(self._stack.times_ns[self._index], _NS_PER_S)
        if not has_time(seconds, nanoseconds):
            seconds, nanoseconds = divmod(time.time_ns(), _NS_PER_S)
        return {"secondsPastEpoch": seconds, "nanoseconds": nanoseconds, "userTag": 0}

    def beside(self, others: Sequence[Frame]) -> NDArray[Any] | None:
        """This image and those of `others` as one view; None where they do not follow each other in one stack."""
        images, first = self._stack.images, self._index
        for index, other in enumerate(others, first + 1):
            if (
                not isinstance(other, StackedFrame)
                or other._stack is not self._stack
                or other._index != index
            ):
                return None
        return None if images is None else images[first : first + len(others) + 1]


Part = tuple[Stack, int]


def stacked_frame(part: Part, key: FrameKey, reader: ImageReader) -> Frame:
    """How the work makes its frames of a stack and a number in there."""
    return StackedFrame(*part, key)


def stacked_frame_with_metadata(
    part: tuple[Part, Mapping[str, Any]], key: FrameKey, reader: ImageReader
) -> Frame:
    """The same under a `JoinedWork`."""
    return StackedFrame(*part[0], key, part[1])


def pv_of_part(part: Part) -> Any:
    """The object of a frame; what is written into it is there when the processor asks for it."""
    return part[0].pv(part[1])


def first_frame(message: Any, *, id_field: str) -> Any:
    """A frame as the source sends it, from a message of stacked ones; DataError when it is none."""
    return Stack(message, FrameTemplate(message, id_field=id_field)).pv(0)


class StackedLoop(ConsumerLoop):
    """The frame loop of a consumer whose updates are stacks."""

    _template: FrameTemplate | None = None

    def _burst(self, channel: MonitoredChannel, pv: Any) -> None:
        """Process the frames of `pv`, and of more stacks that wait."""
        self._in_burst = True
        began, frames = time.perf_counter(), 0
        template = self._template
        if template is None:  # all records that the dispatcher serves to a pool have one structure
            template = self._template = FrameTemplate(channel.probe, id_field=channel.id_field)
        while True:
            frames += self._stack(channel, Stack(pv, template))
            if frames >= self._burst_frames or not len(channel.queue) or self._steering.stop:
                break
            pv = channel.queue.get(0)
        self._burst_is_over(frames, time.perf_counter() - began)

    def _stack(self, channel: MonitoredChannel, stack: Stack) -> int:
        """The frame path. After the order to stop, the frames left are nobody's."""
        do, observe, steering = self._work.do, channel.observe, self._steering
        for index, frame_id in enumerate(stack.ids):
            if steering.stop:
                break
            do((stack, index), observe(frame_id))  # type: ignore[arg-type]
        self._work.flush()
        channel.more += len(stack) - 1
        return len(stack)
