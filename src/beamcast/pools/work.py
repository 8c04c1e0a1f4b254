"""Frames through the user's processor: the same for consumers and collectors.

A processor that raises costs its frame, never the rank: the frame is counted as failed and its traceback kept. So
does one that calls `sys.exit`. Only the order to end (`Terminated`, from a signal) and Ctrl-C pass.
"""

import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from beamcast.core.errors import DataError, Terminated
from beamcast.core.ids import FrameKey
from beamcast.pools.frame import Frame
from beamcast.pools.output import Output
from beamcast.pools.processor import LoadedProcessor
from beamcast.pools.tally import MAX_FAILED_FRAMES_PER_HEARTBEAT, Tally
from beamcast.pva.messages import FailedFrame
from beamcast.pva.ndarray import ImageReader

MAX_TRACEBACK_CHARACTERS = 8000


MakeFrame = Callable[[Any, FrameKey, ImageReader], Frame]


def make_work(
    processor: LoadedProcessor, output: Output, tally: Tally, *, make_frame: MakeFrame = Frame
) -> "Work":
    """The frame path that fits the processor. `make_frame` makes a frame of what `Work.do` is given."""
    made = Work if processor.batch == 1 else BatchWork
    return made(processor, output, tally, make_frame=make_frame)


class Work:
    """Processor, output and tally of a rank. `do` is the frame path.

    `busy_s` is counted by the frame loops, over bursts of frames: two clock readings a frame would be seen in the
    profile.
    """

    __slots__ = ("_make_frame", "_process", "_publish", "_reader", "busy_s", "output", "processor", "tally")

    def __init__(
        self, processor: LoadedProcessor, output: Output, tally: Tally, *, make_frame: MakeFrame = Frame
    ) -> None:
        self.processor = processor
        self._make_frame = make_frame
        self.output = output
        self.tally = tally
        self.busy_s = 0.0
        self._process = processor.process
        self._publish = _nothing_left if processor.publishes_itself else output.publish
        self._reader = ImageReader()

    @property
    def waiting(self) -> int:
        """Frames that wait for others to come before they are processed."""
        return 0

    def flush(self) -> None:
        """Process what waits: nothing more is coming just now."""

    def do(self, pv: Any, key: FrameKey) -> None:
        """Process one update and publish what comes of it."""
        tally = self.tally
        tally.current = key
        frame = self._make_frame(pv, key, self._reader)
        try:
            result = self._process(frame)
            if result is None:
                tally.dropped.append(key)
            else:
                self._publish(result, frame)
                tally.processed.append(key)
        except BaseException as error:  # noqa: BLE001 - the boundary to the user's code: counted, kept, bounded
            self.fail(key, error)
        tally.current = None

    def fail(self, key: FrameKey, error: BaseException) -> None:
        """Count a frame as failed and keep the traceback. The order to end and Ctrl-C are raised again."""
        if isinstance(error, Terminated | KeyboardInterrupt):
            raise error
        self.tally.failed.append(key)
        # Formatting costs more than the frame, and the heartbeat takes no more than these.
        if len(self.tally.failed_frames) < MAX_FAILED_FRAMES_PER_HEARTBEAT:
            text = "".join(traceback.format_exception(error))[-MAX_TRACEBACK_CHARACTERS:]
            self.tally.failed_frames.append(FailedFrame(key=key, traceback=text))


class BatchWork(Work):
    """For a processor that takes several frames in one call: as many as it wants, fewer when no more come.

    When the call raises, the frames are tried again one by one: one bad frame does not cost its neighbours.
    """

    __slots__ = ("_frames", "_process_batch", "_size")

    def __init__(
        self, processor: LoadedProcessor, output: Output, tally: Tally, *, make_frame: MakeFrame = Frame
    ) -> None:
        super().__init__(processor, output, tally, make_frame=make_frame)
        assert processor.process_batch is not None
        self._process_batch = processor.process_batch
        self._size = processor.batch
        self._frames: list[Frame] = []

    @property
    def waiting(self) -> int:
        """Frames of the batch that is being filled."""
        return len(self._frames)

    def do(self, pv: Any, key: FrameKey) -> None:
        """Add one update to the batch; a full batch is processed."""
        self._frames.append(self._make_frame(pv, key, self._reader))
        self.tally.held.append(key)
        if len(self._frames) == self._size:
            self.flush()

    def flush(self) -> None:
        """Process the frames that wait."""
        if not self._frames:
            return
        frames, self._frames = self._frames, []
        self._try(frames)
        self.tally.held.clear()
        self.tally.current = None

    def _try(self, frames: list[Frame]) -> None:
        self.tally.current = frames[0].key
        try:
            results = self._results(frames)
        except BaseException as error:  # noqa: BLE001 - as in Work.do
            if len(frames) == 1 or isinstance(error, Terminated | KeyboardInterrupt):
                self.fail(frames[0].key, error)
                return
            for frame in frames:
                self._try([frame])
            return
        for frame, result in zip(frames, results, strict=True):
            self._finish(frame, result)

    def _results(self, frames: list[Frame]) -> Any:
        results = self._process_batch(frames)
        if results is None:
            return [None] * len(frames)
        if not isinstance(results, list | tuple | np.ndarray) or len(results) != len(frames):
            got = f"{len(results)} results" if hasattr(results, "__len__") else type(results).__name__
            raise DataError(
                f"process_batch() returned {got} for {len(frames)} frames",
                hint="return a list with one result for each frame, None where a frame has none",
            )
        return results

    def _finish(self, frame: Frame, result: Any) -> None:
        tally = self.tally
        try:
            if result is None:
                tally.dropped.append(frame.key)
            else:
                self._publish(result, frame)
                tally.processed.append(frame.key)
        except BaseException as error:  # noqa: BLE001 - as in Work.do
            self.fail(frame.key, error)


def _nothing_left(result: Any, frame: Frame) -> None:
    """The processor has published by itself."""
