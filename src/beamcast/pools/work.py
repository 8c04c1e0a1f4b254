"""One frame through the user's processor: the same for consumers and collectors.

A processor that raises costs its frame, never the rank: the frame is counted as failed and its traceback kept.
"""

import time
import traceback
from typing import Any

from beamcast.core.ids import FrameKey
from beamcast.pools.frame import Frame
from beamcast.pools.output import Output
from beamcast.pools.processor import Processor
from beamcast.pools.tally import Tally
from beamcast.pva.messages import FailedFrame
from beamcast.pva.ndarray import ImageReader

MAX_TRACEBACK_CHARACTERS = 8000


class Work:
    """Processor, output and tally of a rank. `do` is the frame path."""

    __slots__ = ("_process", "_publish", "_reader", "busy_s", "output", "processor", "tally")

    def __init__(self, processor: Processor, output: Output, tally: Tally) -> None:
        self.processor = processor
        self.output = output
        self.tally = tally
        self.busy_s = 0.0
        self._process = processor.process
        self._publish = output.publish
        self._reader = ImageReader()

    def do(self, pv: Any, key: FrameKey) -> None:
        """Process one update and publish what comes of it."""
        tally = self.tally
        tally.current = key
        frame = Frame(pv, key, self._reader)
        began = time.perf_counter()
        try:
            result = self._process(frame)
            if result is None:
                tally.dropped.append(key)
            else:
                self._publish(result, frame)
                tally.processed.append(key)
        except Exception:  # noqa: BLE001 - the boundary to the user's code: counted, kept, bounded by max_failed
            self._failed(key)
        self.busy_s += time.perf_counter() - began

    def _failed(self, key: FrameKey) -> None:
        self.tally.failed.append(key)
        text = traceback.format_exc()[-MAX_TRACEBACK_CHARACTERS:]
        self.tally.failed_frames.append(FailedFrame(key=key, traceback=text))
