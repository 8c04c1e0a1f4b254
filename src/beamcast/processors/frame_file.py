"""One HDF5 file of frames in the making.

The file has the name `FILE.partial` while it grows and gets its own on `close`, so that a file with its own name is
always whole. It is in SWMR mode (single writer, multiple readers): others may read it while it grows, and what was
flushed when the process was killed can be read from the partial file (`h5py.File(path, swmr=True)`).

SWMR forbids new datasets and text of free length once it is on. So the first frame settles what metadata there is.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol, get_args

import numpy as np

from beamcast.core.errors import DataError, UsageError, WorldError
from beamcast.core.frame_layout import EPOCH, ID, METADATA, PARTIAL, TIMESTAMP
from beamcast.processors.columns import MetadataColumns, make_column, put
from beamcast.processors.contents import Content, Contents, FieldColumns, ImageColumn, size_bytes

Compression = Literal["none", "gzip", "lz4", "bslz4", "blosc", "zstd"]
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)

# Left free on the disk, for what HDF5 keeps beside the frames, and for others.
_SPARE_BYTES = 16 * 2**20
# After a write that failed, closing the file crashes HDF5 (seen in 2.0), and writing on loses frames. So nobody
# touches it again, and a reference stays: without one it would be closed.
_BROKEN: list["FrameFile"] = []


class SavedFrame(Protocol):
    """What of a frame goes beside its image."""

    @property
    def id(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def timestamp(self) -> float: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...


def load_h5py() -> ModuleType:
    """h5py, with detectors' compressions; UsageError when they are not installed."""
    try:
        import h5py
        import hdf5plugin  # noqa: F401 - importing it registers the compressions
    except ImportError as error:
        raise UsageError(
            f"HDF5 files need a library: {error}", hint="pip install 'beamcast[files]'"
        ) from error
    return h5py  # type: ignore[no-any-return]


def compression_filter(name: Compression) -> Mapping[str, Any]:
    """The arguments of h5py's create_dataset."""
    if name == "none":
        return {}
    if name == "gzip":
        return {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    import hdf5plugin

    filters = {
        "lz4": hdf5plugin.LZ4,
        "bslz4": lambda: hdf5plugin.Bitshuffle(cname="lz4"),
        "blosc": lambda: hdf5plugin.Blosc(cname="lz4", shuffle=hdf5plugin.Blosc.BITSHUFFLE),
        "zstd": hdf5plugin.Zstd,
    }
    return filters[name]()  # type: ignore[no-any-return]


class FrameFile:
    """Frames of one shape and dtype, or with the same fields, appended until `close`. For one thread."""

    def __init__(self, path: Path) -> None:
        """`path` is the final name. `open` makes the file."""
        self.path = path
        self.partial = path.with_name(path.name + PARTIAL)
        self.frames = 0
        self.broken = False
        self._file: Any = None
        self._metadata: Any = None
        self._contents: Contents | None = None

    def open(
        self,
        content: Content,
        metadata: Mapping[str, Any],
        *,
        compression: Compression,
        attributes: Mapping[str, str | int],
    ) -> None:
        """Make the file for frames like this one; `attributes` become those of the group `entry`.

        UsageError when a file of that name is there already, WorldError when it can't be made.
        """
        h5py = load_h5py()
        for path in (self.path, self.partial):
            if path.exists():
                raise UsageError(f"{path} is there already", hint="nothing is overwritten: move it away")
        try:
            # Some parallel file systems have no locks; one process writes, under a name of its own.
            self._file = h5py.File(self.partial, "x", libver="latest", locking="best-effort")
        except OSError as error:
            raise WorldError(f"{self.partial} can't be made: {error}") from error
        try:
            self._lay_out(content, metadata, compression, attributes)
            self._file.swmr_mode = True
        except (OSError, RuntimeError) as error:
            raise self._break(error) from error

    def _lay_out(
        self,
        content: Content,
        metadata: Mapping[str, Any],
        compression: Compression,
        attributes: Mapping[str, str | int],
    ) -> None:
        file = self._file
        file.attrs["default"] = "entry"
        for path, nexus in (("entry", "NXentry"), ("entry/data", "NXdata"), ("entry/frame", "NXcollection")):
            file.create_group(path).attrs["NX_class"] = nexus
        file["entry"].attrs.update({"default": "data", **attributes})
        if isinstance(content, np.ndarray):
            self._contents = ImageColumn(file, content, options=compression_filter(compression))
        else:
            self._contents = FieldColumns(file, content)
        self._id = make_column(file, ID, np.dtype(np.int64))
        self._epoch = make_column(file, EPOCH, np.dtype(np.int64))
        self._timestamp = make_column(file, TIMESTAMP, np.dtype(np.float64))
        self._timestamp.attrs["units"] = "s"
        file.create_group(METADATA).attrs["NX_class"] = "NXcollection"
        self._metadata = MetadataColumns(file[METADATA], metadata)

    def fits(self, content: Content) -> bool:
        """Whether an image, or what a frame has in place of one, is of the same kind as those of the file."""
        return self._contents is not None and self._contents.fits(content)

    def append(self, frames: Sequence[SavedFrame], contents: Sequence[Content]) -> None:
        """Write frames and flush them: when this returns they can be read, whatever becomes of the process.

        DataError when one of `contents` does not fit, WorldError when there is no room for them: the file is as it was.
        WorldError when the disk refuses, now or before: the file is `broken`, and what was flushed stays in it.
        """
        for content in contents:
            if not self.fits(content):
                raise DataError(f"{_said(content)} does not fit into {self.path.name}: {self._contents}")
        if self.broken:
            raise WorldError(f"{self.partial} could not be written before")
        self._check_room(sum(map(size_bytes, contents)))
        try:
            self._write(frames, contents, self.frames, self.frames + len(frames))
        except (OSError, RuntimeError) as error:  # h5py takes either for what the disk refuses
            raise self._break(error) from error
        self.frames += len(frames)

    def _write(self, frames: Sequence[SavedFrame], contents: Sequence[Content], begin: int, end: int) -> None:
        assert self._contents is not None
        self._contents.write(contents, begin, end)
        self._metadata.write([frame.metadata for frame in frames], begin, end)
        put(self._epoch, begin, end, [frame.epoch for frame in frames])
        put(self._timestamp, begin, end, [frame.timestamp for frame in frames])
        self._file.flush()
        # Last: its length says how many frames are whole.
        put(self._id, begin, end, [frame.id for frame in frames])
        self._id.flush()

    @property
    def metadata_ignored(self) -> int:
        """Metadata values that had no place in the file."""
        return 0 if self._metadata is None else self._metadata.ignored

    @property
    def size_bytes(self) -> int:
        """Size of the file on the disk."""
        return self.partial.stat().st_size

    def close(self) -> None:
        """Finish the file and give it its name; nothing is left of one that never got a frame. Not of a broken one."""
        if self._file is None or self.broken:
            return
        file, self._file = self._file, None
        try:
            file.close()
        except (OSError, RuntimeError) as error:
            raise self._break(error) from error
        if self.frames:
            self.partial.replace(self.path)
        else:
            self.partial.unlink()

    def _break(self, error: Exception) -> WorldError:
        self.broken = True
        _BROKEN.append(self)
        if not self.frames:
            self.partial.unlink(missing_ok=True)
        return WorldError(f"{self.partial} can't be written: {error}")

    def _check_room(self, size_bytes: int) -> None:
        disk = os.statvfs(self.path.parent)
        free = disk.f_bavail * disk.f_frsize
        # File systems that know no size say 0 blocks.
        if disk.f_blocks and free < size_bytes + _SPARE_BYTES:
            raise WorldError(
                f"{self.path.parent} has {free} bytes left, too few for {size_bytes} more of frames"
            )


def _said(content: Content) -> str:
    if isinstance(content, np.ndarray):
        return f"an image of {content.shape} {content.dtype}"
    return f"an update with the fields {', '.join(content)}"
