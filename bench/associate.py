"""The processors of the metadata benchmark, PvaPy's and ours. Its consumers load this file, and nothing of the rest.

As a program it is a part of the third subject: it takes its share of the frames, or all metadata, and joins nothing.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

METADATA = [f"benchmd:m{number}" for number in range(6)]
STEP = 1_000_000  # ids of one burst begin at a multiple of it


class Recorder:
    """Counts what became of the frames of each burst; a thread writes it down five times a second."""

    def __init__(self) -> None:
        self._path = Path(os.environ["BEAMCAST_BENCH_OUT"]) / f"{os.getpid()}.json"
        self._steps: dict[int, list[float]] = {}
        threading.Thread(target=self._write, daemon=True).start()

    def record(self, frame_id: int, values: dict[str, float]) -> None:
        """One frame and the values that were found for it, by the last character of the channel's name."""
        wrong = any(value != frame_id * 100 + int(name[-1]) for name, value in values.items())
        step = self._steps.setdefault(frame_id // STEP, [0, 0, 0, time.process_time(), 0.0, 0.0])
        step[0] += 1
        step[1] += len(values) == len(METADATA) and not wrong
        step[2] += wrong
        step[4], step[5] = time.process_time(), time.time()

    def _write(self) -> None:
        while True:
            time.sleep(0.2)
            text = json.dumps(self._steps)
            part = self._path.with_suffix(".part")
            part.write_text(text)
            part.rename(self._path)


class Associate:
    """beamcast's side: the values are there."""

    def __init__(self) -> None:
        self._recorder = Recorder()

    def process(self, frame: Any) -> Any:
        """Pass the frame on with its attributes."""
        self._recorder.record(frame.id, dict(frame.metadata))
        return frame.pv


class PvapyAssociate:
    """PvaPy's side, as its documentation shows it; the hooks that it does not need are empty."""

    def __init__(self, configDict: dict[str, Any]) -> None:  # noqa: N803 - PvaPy's name
        self._recorder = Recorder()
        self._current: dict[str, Any] = {}
        self.logger: Any = None
        self.processorId: Any = None
        self.dataPublisher: Any = None
        self.pvaServer: Any = None
        self.inputChannel = self.outputChannel = self.objectIdField = None
        self.metadataQueueMap: dict[str, Any] = {}

    def process(self, pv: Any) -> Any:
        """Look for the update of each channel that is as old as the frame; append it as an attribute."""
        import pvaccess
        from pvapy.utility.timeUtility import TimeUtility

        frame_s = TimeUtility.getTimeStampAsFloat(pv["timeStamp"])
        attributes = pv["attribute"]
        values: dict[str, float] = {}
        for channel, queue in self.metadataQueueMap.items():
            while True:
                if channel not in self._current:
                    try:
                        self._current[channel] = queue.get(0.1)
                    except pvaccess.QueueEmpty:
                        break
                update = self._current[channel]
                difference_s = TimeUtility.getTimeStampAsFloat(update["timeStamp"]) - frame_s
                if abs(difference_s) <= 1e-5:
                    values[channel] = update["value"]
                    attributes.append(pvaccess.NtAttribute(channel, pvaccess.PvFloat(update["value"])))
                    del self._current[channel]
                    break
                if difference_s > 0:
                    break
                del self._current[channel]
        pv["attribute"] = attributes
        if self.dataPublisher and self.outputChannel:
            self.dataPublisher.updateOutputChannel(pv)
        self._recorder.record(pv["uniqueId"], values)
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


def receive_frames(channel: str, number: int, queue_frames: int) -> None:
    """Take what the data distributor gives this process, and do as if everything had been found for it."""
    import pvaccess

    recorder, queue = Recorder(), pvaccess.PvObjectQueue(queue_frames)
    source = pvaccess.Channel(channel)
    distributor = f"pydistributor=group:bench;set:{number};trigger:uniqueId;updates:1"
    source.qMonitor(queue, f"record[queueSize={queue_frames}]field(_[{distributor}])")
    while True:
        try:
            frame_id = queue.get(1.0).getInt("uniqueId")
        except pvaccess.QueueEmpty:
            continue
        recorder.record(frame_id, {name: frame_id * 100.0 + int(name[-1]) for name in METADATA})


def receive_metadata(queue_updates: int) -> None:
    """Take the updates of all channels, and leave them at that."""
    import pvaccess

    queues = {name: pvaccess.PvObjectQueue(queue_updates) for name in METADATA}
    channels = {name: pvaccess.Channel(name) for name in METADATA}
    for name, channel in channels.items():
        channel.qMonitor(queues[name], f"record[queueSize={queue_updates}]field()")
    while True:
        time.sleep(0.02)
        for queue in queues.values():
            for _ in range(len(queue)):
                queue.get(0)


if __name__ == "__main__":
    if sys.argv[1] == "metadata":
        receive_metadata(int(sys.argv[2]))
    receive_frames(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
