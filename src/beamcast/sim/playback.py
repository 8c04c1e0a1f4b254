"""Playing back recorded frames: with the times they had, or at a steady rate.

Recordings are HDF5 files as `beamcast record` and the processor `SaveHdf5` write them, and as areaDetector's file
plugin and Eiger detectors do. A file that is still being written, or was when its writer died, is played as far as its
frames are whole.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beamcast.core.errors import DataError, UsageError
from beamcast.core.frame_layout import DATA, EPOCH, ID, TIMESTAMP
from beamcast.core.times import has_time
from beamcast.pva.ndarray import MAX_FRAME_ID, make_ndarray, set_header, set_image
from beamcast.sim.hdf5 import candidates, first_numbers, image_datasets, open_hdf5
from beamcast.sim.hdf5 import dataset as read_dataset
from beamcast.sim.pacing import Pacer
from beamcast.sim.payload import Image
from beamcast.sim.simulator import SimReport
from beamcast.sim.stack import FrameStack, axes_by_count, image_dimensions

_AREA_DETECTOR = "entry/instrument/NDAttributes/"
# The last: a group of numbered datasets, as an Eiger's master file has it.
_IMAGES = (DATA, "entry/instrument/detector/data", "entry/data")
_IDS = (ID, _AREA_DETECTOR + "NDArrayUniqueId")
_TIMES = (TIMESTAMP, _AREA_DETECTOR + "NDArrayTimeStamp")
# An attribute of areaDetector's datasets: how many dimensions an image has.
_DIMENSIONS = "NDArrayNumDims"
# Nobody waits so long for a frame on purpose.
LONGEST_PAUSE_S = 86400.0


class Recording:
    """Frames of a file, by their number in it. `ids` is None and `times_s` has NaN where the file does not say."""

    def __init__(
        self, *parts: Any, name: str, ids: Any = None, times_s: Any = None, axes: int | None = None
    ) -> None:
        """`parts`: the arrays with the images. `axes`: how many of their first dimensions count frames; None: as many
        as fit to the numbers of ids and times. `ids` and `times_s` may have as many dimensions.

        DataError when there are no frames, or images of different shapes.
        """
        ids, times_s = _flat(ids), _flat(times_s)
        counts = [len(one) for one in (ids, times_s) if one is not None]
        stack = FrameStack(parts, axes=_axes(parts, counts, name) if axes is None else axes, name=name)
        # What was not flushed when the writer died is missing in some of them.
        self.frames = min([stack.frames, *counts])
        if not self.frames:
            raise DataError(f"{name} holds no whole frame")
        self.name = name
        self.ids: Any = None if ids is None else np.asarray(ids[: self.frames], np.int64)
        self.times_s: Any = np.full(self.frames, np.nan)
        if times_s is not None:
            self.times_s = np.array(times_s[: self.frames], np.float64)
            self.times_s[[not has_time(float(one)) for one in self.times_s]] = np.nan
        self._stack = stack

    def image(self, index: int) -> Image:
        """The image of frame `index`, read from the file now; DataError when it can't be."""
        return self._stack.image(index)

    def due_s(self, *, speed: float = 1.0) -> Any:
        """When each frame is due after the first one, in seconds. UsageError where the file has no times, and where one
        frame follows another after more than a day, which is a clock that was set.

        A time that is missing or earlier than the one before is the one before.
        """
        known = np.isfinite(self.times_s)
        if not known.any():
            raise UsageError(f"{self.name} does not say when its frames were taken", hint="give --rate")
        times_s = np.where(known, self.times_s, -np.inf)
        times_s = np.maximum(np.maximum.accumulate(times_s), self.times_s[known][0])
        due_s = (times_s - times_s[0]) / speed
        pauses_s = np.diff(due_s)
        if pauses_s.size and pauses_s.max() > LONGEST_PAUSE_S:
            days = pauses_s.max() / 86400
            raise UsageError(
                f"{self.name}: frame {int(pauses_s.argmax()) + 1} would come {days:.0f} days after the one before it",
                hint="its clock was probably set between the two: give --rate",
            )
        return due_s


def _flat(values: Any) -> Any:
    """Ids or times of a scan as one row. The places of a scan that were not reached have zeros, which are left out."""
    if values is None or len(values.shape) < 2:
        return values
    flat = np.asarray(values).reshape(-1)
    return flat[: int(np.flatnonzero(flat).max(initial=-1)) + 1]


def _axes(parts: Sequence[Any], counts: Sequence[int], name: str) -> int:
    """How many of the first dimensions count frames, by the number of ids and times, else by the shape."""
    shape = parts[0].shape
    if len(parts) == 1 and counts and (axes := axes_by_count(shape, max(counts))) is not None:
        return axes
    if len(shape) < 3:
        raise DataError(f"{name} holds no frames: its images have the shape {tuple(shape)}")
    return len(shape) - image_dimensions(shape)


def open_recording(path: Path, dataset: str | None = None) -> Recording:
    """The frames of an HDF5 file, of `dataset` where its name is none of the usual ones.

    DataError for a file that can't be used, UsageError when h5py is missing. The file stays open.
    """
    file = open_hdf5(path)
    for name in (dataset,) if dataset else _IMAGES:
        parts = image_datasets(file, name)
        if parts is not None:
            return _recording(file, name, parts, path)
    raise DataError(f"{path} has no dataset {dataset or DATA!r}", hint=_hint(file))


def _recording(file: Any, name: str, parts: list[Any], path: Path) -> Recording:
    ids = next((found for one in _IDS if (found := read_dataset(file, one)) is not None), None)
    times_s = next((found for one in _TIMES if (found := read_dataset(file, one)) is not None), None)
    numbers = first_numbers(parts)
    if ids is None and numbers is not None:
        ids = np.concatenate(
            [first + np.arange(len(part)) for first, part in zip(numbers, parts, strict=True)]
        )
    ours = read_dataset(file, EPOCH) is not None
    dimensions = parts[0].attrs.get(_DIMENSIONS)
    said = 1 if ours else None if dimensions is None else len(parts[0].shape) - int(dimensions)
    return Recording(*parts, name=str(path), ids=ids, times_s=times_s, axes=said)


def _hint(file: Any) -> str:
    if read_dataset(file, ID) is not None:
        return "it was recorded from a stream without images, and only images can be played"
    names = candidates(file)
    return (
        f"name the one with the frames by --dataset: {', '.join(names)}"
        if names
        else "it holds no images at all"
    )


class Player:
    """Publishes a recording on `channel` of `server`, an existing pvaccess.PvaServer that the caller stops.

    Ids are those of the recording, or count up from `first_id`. Each frame gets the time of its sending.
    """

    def __init__(
        self,
        channel: str,
        recording: Recording,
        *,
        server: Any,
        due_s: Any,
        first_id: int | None = None,
        repeat: int = 1,
        frames: int | None = None,
    ) -> None:
        """`due_s`: when each frame of one pass is due, in seconds, ascending. `repeat`: passes; with the ids of the
        recording each is a new epoch. `frames`: end after so many.

        UsageError when there are no ids to keep, DataError for those that don't fit into an NTNDArray.
        """
        if len(due_s) != recording.frames:
            raise ValueError(f"{len(due_s)} times for {recording.frames} frames")
        self._ids = _ids(recording, first_id, repeat)[:frames]
        self._due_s = due_s
        # From the last frame to the first of the next pass: as long as a frame takes in the mean.
        self._pass_s = float(due_s[-1]) * (1 + 1 / max(1, len(due_s) - 1))
        self._channel = channel
        self._recording = recording
        self._server = server

    def serve_initial(self) -> None:
        """Add the channel with a probe, the first image under the id before the first, which is no frame."""
        image = self._recording.image(0)
        probe = make_ndarray(image, frame_id=int(self._ids[0]) - 1, timestamp_s=time.time())
        self._server.addRecord(self._channel, probe)

    def run(self, should_stop: Callable[[], bool]) -> SimReport:
        """Publish until all is sent or `should_stop()`; `serve_initial` comes first."""
        frames = self._recording.frames
        pacer = Pacer.along(lambda tick: tick // frames * self._pass_s + float(self._due_s[tick % frames]))
        pv, sent = make_ndarray(self._recording.image(0), frame_id=0, timestamp_s=0.0), 0
        began = time.perf_counter()
        for frame_id in self._ids:
            # Read before it is due: the disk does not delay it.
            set_image(pv, self._recording.image(sent % frames))
            if not pacer.wait(should_stop) or should_stop():
                break
            set_header(pv, frame_id=int(frame_id), timestamp_ns=time.time_ns())
            self._server.updateUnchecked(self._channel, pv)
            sent += 1
        return self._report(pacer, sent, time.perf_counter() - began)

    def _report(self, pacer: Pacer, sent: int, seconds: float) -> SimReport:
        jitter = pacer.jitter()
        return SimReport(
            sent=sent,
            first_id=int(self._ids[0]),
            last_id=int(self._ids[max(sent - 1, 0)]),
            seconds=seconds,
            rate_hz=sent / seconds if seconds else 0.0,
            jitter_p50_s=jitter.p50_s,
            jitter_p99_s=jitter.p99_s,
            jitter_max_s=jitter.max_s,
        )


def steady(frames: int, rate_hz: float) -> Any:
    """When each of `frames` frames is due at a steady rate, in seconds."""
    return np.arange(frames) / rate_hz


def _ids(recording: Recording, first_id: int | None, repeat: int) -> Any:
    """The id of every frame of all passes."""
    if first_id is not None:
        ids = np.arange(first_id, first_id + recording.frames * repeat, dtype=np.int64)
    elif recording.ids is not None:
        ids = np.tile(recording.ids, repeat)
    else:
        raise UsageError(f"{recording.name} has no frame ids", hint="give --first-id")
    if ids.min() < 0 or ids.max() > MAX_FRAME_ID:
        raise DataError(
            f"{recording.name}: ids {ids.min()} to {ids.max()} do not fit: NTNDArray has 0 to {MAX_FRAME_ID}",
            hint="give --first-id",
        )
    return ids
