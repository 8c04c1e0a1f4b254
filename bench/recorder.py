"""What every subject does with a frame besides its own work: note its id and when it came.

One `Recorder` serves all subjects, so that its cost (about 0.3 µs a frame) is the same for each. Files it
writes into ``BEAMCAST_BENCH_OUT``: ``ready`` at the first frame, ``result.json`` when the first end marker
has come after data.
"""

import json
import os
import time
from array import array
from pathlib import Path
from typing import Any

# Ids from here on mark the end; data ids start at 0 in each round and stay far below.
END_ID = 1_000_000_000


class Recorder:
    """Collects ids and arrival times (seconds, monotonic) until an end marker comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids = array("q")
        self._times_s = array("d")
        self._ready = False
        self.done = False

    def begin(self) -> None:
        """Whoever asks is told that frames may come."""
        self._ready = True
        (self._folder / "ready").touch()

    def record(self, frame_id: int) -> None:
        """Note one frame; the first and the last make files."""
        if 0 <= frame_id < END_ID:
            self._ids.append(frame_id)
            self._times_s.append(time.perf_counter())
        elif not self._ready:
            self._ready = True
            (self._folder / "ready").touch()
        elif self._ids and not self.done:
            self.done = True
            self._write()

    def _write(self) -> None:
        part = self._folder / "result.part"
        part.write_text(json.dumps({"ids": list(self._ids), "times_s": list(self._times_s)}))
        part.rename(self._folder / "result.json")


def from_environment() -> Recorder:
    """The recorder of this process, as the benchmark started it."""
    return Recorder(Path(os.environ["BEAMCAST_BENCH_OUT"]))


class RecordingPassThrough:
    """PvaPy's processor interface: pass each object on, as its own pass-through does, and note its id."""

    def __init__(self, configDict: dict[str, Any]) -> None:  # noqa: N803  PvaPy's name
        self._recorder = from_environment()
        self.logger: Any = None
        self.processorId: Any = None
        self.dataPublisher: Any = None
        self.pvaServer: Any = None
        self.inputChannel: Any = None
        self.outputChannel: Any = None
        self.objectIdField: Any = None
        self.metadataQueueMap: dict[str, Any] = {}

    def process(self, pv: Any) -> Any:
        """Publish ``pv`` unchanged and note its id."""
        if self.dataPublisher and self.outputChannel:
            self.dataPublisher.updateOutputChannel(pv)
        self._recorder.record(pv.getInt("uniqueId"))
        return pv

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def configure(self, configDict: dict[str, Any]) -> None: ...  # noqa: N803
    def resetStats(self) -> None: ...  # noqa: N802
    def getStats(self) -> dict[str, Any]:  # noqa: N802
        return {}

    def getStatsPvaTypes(self) -> dict[str, Any]:  # noqa: N802
        return {}

    def getInputPvObjectType(self) -> Any:  # noqa: N802
        return None

    def getOutputPvObjectType(self, pv: Any) -> Any:  # noqa: N802
        return pv


class RecordingSink:
    """beamcast's own interface: note the id, publish nothing. Frames reach it after the run has begun."""

    def __init__(self) -> None:
        self._recorder = from_environment()
        self._recorder.begin()

    def process(self, frame: Any) -> None:
        """Note the id."""
        self._recorder.record(frame.id)


class RecordingProcessor:
    """beamcast's own interface: pass each frame on and note its id."""

    def __init__(self) -> None:
        self._recorder = from_environment()

    def process(self, frame: Any) -> Any:
        """Return the received object unchanged and note its id."""
        self._recorder.record(frame.id)
        return frame.pv
