"""The last frame keys that went through a member, in a file that outlives its process.

The choice: a ring in a mapped file. To note keys is two stores into memory, a microsecond with all around it, and what
was stored is there after a SIGKILL, since the pages belong to the kernel. It does not survive the host, and need not:
what lies in the memory of a member does not either.
"""

import logging
import mmap
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

logger = logging.getLogger(__name__)

FOLDER = "state"
# Half a minute at 4000 frames/s; older ones have long been told to the controller. 1 MiB on disk.
CAPACITY = 1 << 17
_MAGIC = b"BCKEYS1\0"
_HEAD = struct.Struct("<8sQQ")  # magic, keys noted since the beginning, a number of the owner's
_WORD = struct.Struct("<Q")
_COUNT_AT, _MARK_AT = 8, 16


class KeyJournal:
    """Notes keys; a successor reads them. One thread notes. A context manager."""

    def __init__(self, run_dir: Path, member: str, *, capacity: int = CAPACITY) -> None:
        """Open the journal of a member, with what an earlier process of it has noted."""
        self._map = _mapped(run_dir / FOLDER / f"{member}.keys", _HEAD.size + capacity * _WORD.size)
        self._capacity = capacity
        magic, self._count, _ = _HEAD.unpack_from(self._map)
        if magic != _MAGIC:
            self._count = 0
            _HEAD.pack_into(self._map, 0, _MAGIC, 0, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._map.close()

    def note(self, *keys: int) -> None:
        """Note keys. First the keys, then their count: a kill in between forgets them, and never makes one up."""
        keys = keys[-self._capacity :]
        begin = self._count % self._capacity
        upto_end = self._capacity - begin
        self._write(begin, keys[:upto_end])
        if len(keys) > upto_end:
            self._write(0, keys[upto_end:])
        self._count += len(keys)
        _WORD.pack_into(self._map, _COUNT_AT, self._count)

    def _write(self, index: int, keys: tuple[int, ...]) -> None:
        struct.pack_into(f"<{len(keys)}Q", self._map, _HEAD.size + index * _WORD.size, *keys)

    def keys(self) -> list[int]:
        """The last keys, oldest first."""
        held = min(self._count, self._capacity)
        first = self._count - held
        at = (_HEAD.size + index % self._capacity * _WORD.size for index in range(first, self._count))
        return [int(_WORD.unpack_from(self._map, where)[0]) for where in at]

    @property
    def mark(self) -> int:
        """A number that the owner may leave to its successor; 0 at first."""
        return int(_WORD.unpack_from(self._map, _MARK_AT)[0])

    @mark.setter
    def mark(self, value: int) -> None:
        _WORD.pack_into(self._map, _MARK_AT, value)


def _mapped(path: Path, size: int) -> mmap.mmap:
    """The file in memory. Its room on disk is taken beforehand: a store into a page for which the disk has no room
    kills the process. Where there is no room, the journal is in memory alone and ends with its process."""
    try:
        path.parent.mkdir(exist_ok=True)
        with path.open("a+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)
            file.truncate(size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        logger.warning("no journal at %s: %s; a successor of this process will know less", path, error)
        return mmap.mmap(-1, size)
