"""The detector simulator: publishes frames of a source as NTNDArray on one channel at a steady rate.

Publishing costs microseconds whatever the frame size where frames repeat (`FrameSource.cycle`): their
payloads are prepared once and shared. Frames that each differ (stamped ones) cost one copy.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from beamcast.core.errors import UsageError
from beamcast.pva.ndarray import (
    MAX_FRAME_ID,
    make_ndarray,
    prepare_value,
    set_header,
    set_image,
    set_prepared,
)
from beamcast.sim.metadata import SimulatedMetadata
from beamcast.sim.pacing import Jitter, Pacer
from beamcast.sim.source import FrameSource

_NO_JITTER = Jitter(p50_s=0.0, p99_s=0.0, max_s=0.0)


@dataclass(frozen=True, slots=True)
class SimReport:
    """One `Simulator.run`: how many frames went out in ``seconds``, and how late after their due time."""

    sent: int
    first_id: int
    last_id: int
    seconds: float
    rate_hz: float
    jitter_p50_s: float
    jitter_p99_s: float
    jitter_max_s: float


class Simulator:
    """Publishes on ``channel`` of ``server``, an existing `pvaccess.PvaServer` that the caller stops.

    ``rate_hz=None`` sends as fast as it can; ``frames=None`` until told to stop. Ids count up from
    ``first_id`` by one; after `MAX_FRAME_ID` a new epoch starts at 0. `run` belongs to one thread; ``sent``
    and ``last_id`` may be read, and `restart_epoch` called, from any.
    """

    def __init__(
        self,
        channel: str,
        source: FrameSource,
        *,
        server: Any,
        rate_hz: float | None,
        frames: int | None,
        first_id: int = 0,
        metadata: SimulatedMetadata | None = None,
    ) -> None:
        """``metadata`` is updated with each frame."""
        _check_id(first_id)
        self.channel = channel
        self.sent = 0
        self.last_id = first_id - 1
        self._source = source
        self._server = server
        self._pacer = None if rate_hz is None else Pacer(rate_hz)
        self._frames = frames
        self._next_id = first_id
        self._restart_at: int | None = None
        self._prepared: Sequence[Any] | None = None
        self._metadata = metadata

    def serve_initial(self) -> None:
        """Add the channel with a probe frame, ``first_id - 1``, by which clients can be seen to receive."""
        images = self._source.cycle()
        self._prepared = None if images is None else [prepare_value(image) for image in images]
        if self._metadata is not None:
            self._metadata.serve(self._next_id - 1, time.time_ns())
        self._server.addRecord(self.channel, self._probe())

    def restart_epoch(self, first_id: int = 0) -> None:
        """Go on with ``first_id`` at the next frame, as a detector does when its acquisition starts again."""
        _check_id(first_id)
        self._restart_at = first_id

    def run(self, should_stop: Callable[[], bool]) -> SimReport:
        """Publish until all frames are sent or ``should_stop()``; ``serve_initial`` comes first.

        The server must live on for a while: clients may still be reading the last frames.
        """
        first_id = self._next_id if self._restart_at is None else self._restart_at
        pv, done = self._probe(), 0
        started_s = time.perf_counter()
        while (self._frames is None or done < self._frames) and not should_stop():
            if self._pacer is not None and not self._pacer.wait(should_stop):
                break
            self._publish(pv, self._take_id())
            done += 1
        return self._report(first_id, done, time.perf_counter() - started_s)

    def _publish(self, pv: Any, frame_id: int) -> None:
        if self._prepared is None:
            set_image(pv, self._source.frame(frame_id))
        else:
            set_prepared(pv, self._prepared[frame_id % len(self._prepared)])
        timestamp_ns = time.time_ns()
        set_header(pv, frame_id=frame_id, timestamp_ns=timestamp_ns)
        if self._metadata is not None:
            self._metadata.publish(frame_id, timestamp_ns)
        self._server.updateUnchecked(self.channel, pv)
        self.last_id = frame_id
        self.sent += 1

    def _take_id(self) -> int:
        restart_at, self._restart_at = self._restart_at, None
        frame_id = self._next_id if restart_at is None else restart_at
        self._next_id = frame_id + 1 if frame_id < MAX_FRAME_ID else 0
        return frame_id

    def _probe(self) -> Any:
        probe_id = self._next_id - 1
        return make_ndarray(self._source.frame(probe_id), frame_id=probe_id, timestamp_s=0.0)

    def _report(self, first_id: int, done: int, seconds: float) -> SimReport:
        jitter = self._pacer.jitter() if self._pacer is not None else _NO_JITTER
        return SimReport(
            sent=done,
            first_id=first_id,
            last_id=self.last_id,
            seconds=seconds,
            rate_hz=done / seconds if seconds else 0.0,
            jitter_p50_s=jitter.p50_s,
            jitter_p99_s=jitter.p99_s,
            jitter_max_s=jitter.max_s,
        )


def _check_id(first_id: int) -> None:
    if not 0 <= first_id <= MAX_FRAME_ID:
        raise UsageError(
            f"a first frame id is between 0 and {MAX_FRAME_ID}, not {first_id}: NTNDArray ids have 32 bits"
        )
