"""Playing back recorded frames: with the times they had, or at a steady rate.

Recordings are HDF5 files as `beamcast record` and the processor `SaveHdf5` write them, and as areaDetector's file
plugin does. A file that is still being written, or was when its writer died, is played as far as its frames are whole.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from beamcast.core.errors import DataError, UsageError
from beamcast.core.frame_layout import DATA, ID, TIMESTAMP
from beamcast.pva.ndarray import MAX_FRAME_ID, make_ndarray, set_header, set_image
from beamcast.sim.pacing import Pacer
from beamcast.sim.payload import Image
from beamcast.sim.simulator import SimReport

_AREA_DETECTOR = "entry/instrument/NDAttributes/"
_IMAGES = (DATA, "entry/instrument/detector/data")
_IDS = (ID, _AREA_DETECTOR + "NDArrayUniqueId")
_TIMES = (TIMESTAMP, _AREA_DETECTOR + "NDArrayTimeStamp")


class Recording:
    """Frames of a file, by their number in it. `ids` is None and `times_s` has NaN where the file does not say."""

    def __init__(self, images: Any, *, name: str, ids: Any = None, times_s: Any = None) -> None:
        """`images`: [frames, rows, columns] or [frames, rows, columns, colours]; DataError when there are none."""
        if len(images.shape) < 3 or not len(images):
            raise DataError(f"{name} holds no frames: its images have the shape {tuple(images.shape)}")
        lengths = [len(one) for one in (images, ids, times_s) if one is not None]
        # What was not flushed when the writer died is missing in some of them.
        self.frames = min(lengths)
        if not self.frames:
            raise DataError(f"{name} holds no whole frame")
        self.name = name
        self.ids: Any = None if ids is None else np.asarray(ids[: self.frames], np.int64)
        self.times_s: Any = np.full(self.frames, np.nan)
        if times_s is not None:
            self.times_s = np.asarray(times_s[: self.frames], np.float64)
        self._images = images
        self._dtype = np.dtype(images.dtype).newbyteorder("=")

    def image(self, index: int) -> Image:
        """The image of frame `index`, read from the file now; DataError when it can't be."""
        try:
            return np.asarray(self._images[index], self._dtype)
        except OSError as error:
            raise DataError(f"{self.name}: frame {index} can't be read: {error}") from error

    def due_s(self, *, speed: float = 1.0) -> Any:
        """When each frame is due after the first one, in seconds; UsageError where the file has no times.

        A time that is missing or earlier than the one before is the one before.
        """
        known = np.isfinite(self.times_s)
        if not known.any():
            raise UsageError(f"{self.name} does not say when its frames were taken", hint="give --rate")
        times_s = np.where(known, self.times_s, -np.inf)
        times_s = np.maximum(np.maximum.accumulate(times_s), self.times_s[known][0])
        return (times_s - times_s[0]) / speed


def open_recording(path: Path, dataset: str | None = None) -> Recording:
    """The frames of an HDF5 file, of `dataset` where its name is none of the usual ones.

    DataError for a file that can't be used, UsageError when h5py is missing. The file stays open.
    """
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    file, kind = _open(path)
    found = _first(file, (dataset,) if dataset else _IMAGES, kind)
    if found is None:
        raise DataError(
            f"{path} has no dataset {dataset or DATA!r}", hint="name the one with the frames by --dataset"
        )
    return Recording(found, name=str(path), ids=_first(file, _IDS, kind), times_s=_first(file, _TIMES, kind))


def _open(path: Path) -> tuple[Any, Any]:
    try:
        import h5py
    except ImportError as error:
        raise UsageError("reading HDF5 files needs h5py", hint="pip install 'beamcast[files]'") from error
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401 - importing it registers the compressions
    try:
        return h5py.File(path, "r"), h5py.Dataset
    except OSError as error:
        # Not closed by its writer, which may be at it still.
        with suppress(OSError):
            return h5py.File(path, "r", swmr=True), h5py.Dataset
        raise DataError(f"{path} cannot be read as HDF5: {error}") from error


def _first(file: Any, names: tuple[str, ...], kind: Any) -> Any:
    return next((file[name] for name in names if isinstance(file.get(name), kind)), None)


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
