"""Frames on disk: those that did not fit into memory, and those that were given up.

A thread of its own writes and reads, in the order asked; a checksum tells a damaged file. What is written is the
object without pickle (`beamcast.pva.portable`). Spilled files go when they have been read back or the run ends; files
of given-up frames stay, up to a number.
"""

import contextlib
import errno
import logging
import queue
import struct
import threading
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

_HEAD = struct.Struct("<4sIQ")  # magic, checksum of all that follows, number of parts
_MAGIC = b"BCF1"
# Given-up frames that stay on the disk: enough to try a processor on, where it gives up each frame of a long run.
MAX_KEPT_FRAMES = 100

logger = logging.getLogger(__name__)

# kind ("written" or "read"), key, the object or None, what went wrong, whether the disk is full
Done = Callable[..., None]


def pack(pv: Any) -> list[bytes]:
    """The file of one object, as pieces to be written one after the other."""
    from beamcast.pva.portable import to_parts

    parts = [np.ascontiguousarray(part).data.cast("B") for part in to_parts(pv)]
    lengths = struct.pack(f"<{len(parts)}Q", *(len(part) for part in parts))
    checksum = zlib.crc32(lengths)
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return [_HEAD.pack(_MAGIC, checksum, len(parts)) + lengths, *parts]  # type: ignore[list-item]


def unpack(data: bytes) -> Any:
    """The object of a file; ValueError when the file is damaged."""
    from beamcast.pva.portable import from_parts

    if len(data) < _HEAD.size:
        raise ValueError("the file is too short")
    magic, checksum, count = _HEAD.unpack_from(data)
    body = memoryview(data)[_HEAD.size :]
    if magic != _MAGIC or zlib.crc32(body) != checksum:
        raise ValueError("the file is damaged")
    lengths = struct.unpack_from(f"<{count}Q", body)
    at, parts = 8 * count, []
    for length in lengths:
        parts.append(np.frombuffer(body[at : at + length], dtype=np.uint8))
        at += length
    return from_parts(parts)


class SpillStore:
    """Writes and reads on a thread of its own; `done` is called there, under `lock`."""

    def __init__(self, folder: Path, *, lock: threading.RLock, done: Done) -> None:
        self._folder = folder
        self._lock = lock
        self._done = done
        self._tasks: queue.SimpleQueue[tuple[str, int, Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._kept: int | None = None

    def left(self) -> list[int]:
        """Keys of the frames that lie there already, from a process that was killed; in increasing order."""
        return sorted(int(path.stem) for path in self._folder.glob("*.spilled") if path.stem.isdecimal())

    def write(self, key: int, pv: Any) -> None:
        """Write a frame; `done("written", ...)` follows."""
        self._ask("write", key, pv)

    def read(self, key: int) -> None:
        """Read a frame back and remove its file; `done("read", ...)` follows."""
        self._ask("read", key, None)

    def forget(self, key: int) -> None:
        """Remove the file of a frame, if there is one."""
        if self._thread is not None:
            self._ask("forget", key, None)

    def keep(self, key: int, pv: Any) -> None:
        """Keep a frame for later, under the name of its key; no answer. Past `MAX_KEPT_FRAMES` none is kept."""
        if self._kept is None:
            self._kept = sum(1 for _ in self._folder.glob("*.frame"))
        self._kept += 1
        if self._kept <= MAX_KEPT_FRAMES:
            self._ask("keep", key, pv)
        elif self._kept == MAX_KEPT_FRAMES + 1:
            logger.warning(
                "%s holds %d frames that were given up: no more are kept", self._folder, MAX_KEPT_FRAMES
            )

    def close(self) -> None:
        """Finish what was asked, remove spilled files."""
        if self._thread is not None:
            self._tasks.put(None)
            self._thread.join(timeout=10.0)
        for path in self._folder.glob("*.spilled"):
            self._quietly(partial(path.unlink, missing_ok=True))

    def _ask(self, what: str, key: int, pv: Any) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="spill", daemon=True)
            self._thread.start()
        self._tasks.put((what, key, pv))

    def _path(self, key: int, kind: str = "spilled") -> Path:
        return self._folder / f"{key}.{kind}"

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            what, key, pv = task
            if what == "write":
                self._report("written", key, lambda key=key, pv=pv: self._write(self._path(key), pv))  # type: ignore[misc]
            elif what == "read":
                self._report("read", key, lambda key=key: self._read(key))  # type: ignore[misc]
            elif what == "keep":
                self._quietly(lambda key=key, pv=pv: self._write(self._path(key, "frame"), pv))  # type: ignore[misc]
            else:
                self._quietly(lambda key=key: self._path(key).unlink(missing_ok=True))  # type: ignore[misc]

    def _report(self, kind: str, key: int, act: Callable[[], Any]) -> None:
        pv, problem, full = None, "", False
        try:
            pv = act()
        except OSError as error:
            problem, full = f"disk: {error.strerror}", error.errno in (errno.ENOSPC, errno.EDQUOT)
            self._quietly(lambda: self._path(key).unlink(missing_ok=True))
        except ValueError as error:
            problem = f"disk: {error}"
        with self._lock:
            self._done(kind, key, pv, problem, full=full)

    @staticmethod
    def _quietly(act: Callable[[], Any]) -> None:
        # The frame's id and the reason are in the report; only its payload can't be kept.
        with contextlib.suppress(OSError):
            act()

    @staticmethod
    def _write(path: Path, pv: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for piece in pack(pv):
                file.write(piece)

    def _read(self, key: int) -> Any:
        path = self._path(key)
        pv = unpack(path.read_bytes())
        path.unlink(missing_ok=True)
        return pv
