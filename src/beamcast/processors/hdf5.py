"""Saving frames in HDF5 files, many to a file, a series of files for each rank.

A batch is written and flushed before its frames count as processed: what was acknowledged has left this process, so a
rank that is killed loses none of it. Where a frame is sent again (at-least-once delivery), it may be in two files:
`entry/frame/id` and `epoch` tell.
"""

import time
from pathlib import Path
from typing import Any, Literal

from beamcast import __version__
from beamcast.config.units import Bytes
from beamcast.core.errors import UsageError, WorldError
from beamcast.processors.contents import Content, content_of
from beamcast.processors.frame_file import Compression, FrameFile, load_h5py
from beamcast.processors.places import writing_in

Publish = Literal["frame", "place"]
# What is written between two flushes: a flush costs about as much as a small frame. The rank holds so many frames.
_BATCH = 16
# Between a file that could not be written and the next try: each leaves an open file behind.
_PAUSE_S = 5.0


class SaveHdf5:
    """Writes every frame to `folder/<run>-<pool>-<rank>-<number>.h5` and passes it on: its image, or the fields of an
    update that has none.

    `folder`: relative to the workflow file; made if it is not there. `compression`: of each frame. A file ends after
    `max_frames` frames, when it is `max_size` or larger, and when shape or dtype of the images, or the fields, change.
    `batch`: frames between two flushes. `publish`: "frame" passes the frame on without a copy, "place" publishes where
    it is saved.
    """

    def __init__(
        self,
        *,
        folder: str,
        compression: Compression = "bslz4",
        max_frames: int | None = None,
        max_size: Bytes | None = None,
        batch: int = _BATCH,
        publish: Publish = "frame",
    ) -> None:
        if max_frames is not None and max_frames < 1:
            raise UsageError(f"max_frames is 1 or more, not {max_frames}")
        load_h5py()
        self.batch = batch
        self.output = {"file": str, "index": int} if publish == "place" else None
        self._folder = Path(folder)
        self._compression: Compression = compression
        self._max_frames = max_frames
        self._max_size_bytes = None if max_size is None else int(max_size)
        self._file: FrameFile | None = None
        self._number = 0
        self._clock = time.monotonic
        self._blocked_until_s = 0.0
        # Saved by a call that failed later on: such frames come again, one by one.
        self._saved: dict[int, Any] = {}
        self._frames = self._files = self._ignored = 0

    def start(self, context: Any) -> None:
        """Make the folder; UsageError when it can't be."""
        self._folder = writing_in(context, self._folder)
        self._stem = f"{context.run}-{context.pool}-{context.place.rank:04d}"
        self._attributes: dict[str, str | int] = {
            "creator": f"beamcast {__version__}",
            "run": context.run,
            "pool": context.pool,
            "rank": context.place.rank,
        }
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"the folder {self._folder} can't be made: {error}") from error

    def process_batch(self, frames: list[Any]) -> list[Any]:
        """Write and flush the frames; what was published instead of the n-th is the n-th result."""
        # Before anything is written: a frame that can't be saved fails by itself, when it comes again alone.
        contents = [content_of(frame) for frame in frames]
        done: dict[int, Any] = {}
        at = 0
        try:
            while at < len(frames):
                if frames[at].key in self._saved:
                    done[frames[at].key] = self._saved.pop(frames[at].key)
                    at += 1
                    continue
                at += self._save(frames[at:], contents[at:], done)
        except BaseException:
            self._saved |= done
            raise
        return [done[frame.key] for frame in frames]

    def _save(self, frames: list[Any], contents: list[Content], done: dict[int, Any]) -> int:
        """Write as many of the frames as go into one file, at least one; returns how many."""
        file = self._file_for(contents[0], frames[0])
        count = self._run_length(file, contents)
        begin = file.frames
        try:
            file.append(frames[:count], contents[:count])
        except WorldError:
            self._forget_broken(file)
            raise
        for index, frame in enumerate(frames[:count], begin):
            done[frame.key] = {"file": str(file.path), "index": index} if self.output else frame.pv
        self._frames += count
        if self._is_full(file):
            self._close()
        return count

    def _run_length(self, file: FrameFile, contents: list[Content]) -> int:
        room = len(contents) if self._max_frames is None else self._max_frames - file.frames
        for count, content in enumerate(contents[:room]):
            if not file.fits(content):
                return count
        return min(room, len(contents))

    def _is_full(self, file: FrameFile) -> bool:
        if self._max_frames is not None and file.frames >= self._max_frames:
            return True
        return self._max_size_bytes is not None and file.size_bytes >= self._max_size_bytes

    def _file_for(self, content: Content, frame: Any) -> FrameFile:
        if self._file is not None and not self._file.fits(content):
            self._close()
        if self._file is None:
            if self._clock() < self._blocked_until_s:
                raise WorldError(
                    f"{self._folder} could not be written, another try comes within {_PAUSE_S:g} s"
                )
            file = self._next_file()
            try:
                file.open(content, frame.metadata, compression=self._compression, attributes=self._attributes)
            except WorldError:
                self._forget_broken(file)
                raise
            self._file = file
        return self._file

    def _forget_broken(self, file: FrameFile) -> None:
        """Go on in another file: frames come again, one by one, when their batch has failed."""
        if file.broken:
            self._file = None
            self._blocked_until_s = self._clock() + _PAUSE_S

    def _next_file(self) -> FrameFile:
        """The next number that no file has: a restarted rank goes on behind those of the one before."""
        while True:
            file = FrameFile(self._folder / f"{self._stem}-{self._number:05d}.h5")
            self._number += 1
            if not file.path.exists() and not file.partial.exists():
                return file

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            self._ignored += file.metadata_ignored
            self._files += file.frames > 0
            file.close()

    def stats(self) -> dict[str, Any]:
        """Frames saved, files finished, metadata values that had no place, and the file that is being written."""
        file = self._file
        return {
            "saved": self._frames,
            "files": self._files,
            "metadataIgnored": self._ignored + (file.metadata_ignored if file else 0),
            "file": str(file.path) if file else "",
        }

    def stop(self) -> None:
        """Finish the file."""
        self._close()


class RecordHdf5:
    """Writes frames to one file with a given name: what `beamcast record` runs.

    `file`: relative to the folder of the command. `max_frames`: frames after which no more are written (they count as
    dropped); None: no limit. What is of another kind than the first frame is refused.
    """

    batch = _BATCH

    def __init__(
        self, *, file: str, max_frames: int | None = None, compression: Compression = "bslz4"
    ) -> None:
        load_h5py()
        self._max_frames = max_frames
        self._compression: Compression = compression
        self._file = FrameFile(Path(file))
        self._opened = False

    def start(self, context: Any) -> None:
        """Know where the file will be."""
        self._file = FrameFile(writing_in(context, self._file.path))

    def process_batch(self, frames: list[Any]) -> list[Any]:
        """Write and flush the frames, as many as are wanted."""
        room = len(frames) if self._max_frames is None else self._max_frames - self._file.frames
        kept = frames[: max(0, room)]
        contents = [content_of(frame) for frame in kept]
        if contents and not self._opened:
            self._file.open(
                contents[0],
                kept[0].metadata,
                compression=self._compression,
                attributes={"creator": f"beamcast {__version__}"},
            )
            self._opened = True
        if contents:
            self._file.append(kept, contents)
        return [frame.pv for frame in kept] + [None] * (len(frames) - len(kept))

    def stop(self) -> None:
        """Finish the file."""
        self._file.close()
