"""The log of a member, bounded: a processor that prints without end must not fill the disk of the beamline.

The member writes into a pipe, a thread of whoever started it writes the file. When the file is full it becomes
`<name>.log.1`, in place of an older one: what is left is the end of the output, where the reason of a crash stands.
A pipe, because the starter outlives the crash of the member, and what a thread inside it held back would be lost.
"""

import os
import threading
from pathlib import Path

# Days of a member that logs events; a second of one that prints as fast as it can. Twice this is the most on disk.
MAX_LOG_BYTES = 8 * 1024 * 1024
CHUNK_BYTES = 65536


class BoundedLog:
    """Appends to a file, never more than `max_bytes` to one."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_LOG_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes

    def write(self, chunk: bytes) -> None:
        """Append; an OSError (a full disk) loses the chunk, since the member must not stand still for its log."""
        try:
            if self._path.exists() and self._path.stat().st_size + len(chunk) > self._max_bytes:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
                chunk = (
                    b"(the log was full: what came before is in "
                    + self._path.name.encode()
                    + b".1)\n"
                    + chunk
                )
            with self._path.open("ab") as file:
                file.write(chunk)
        except OSError:
            pass


def pump_log(log: BoundedLog) -> int:
    """A file descriptor to write to; what is written there goes to the log until every copy of it is closed."""
    reader, writer = os.pipe()
    threading.Thread(target=_pump, args=(reader, log), name="log", daemon=True).start()
    return writer


def _pump(reader: int, log: BoundedLog) -> None:
    try:
        while chunk := os.read(reader, CHUNK_BYTES):
            log.write(chunk)
    finally:
        os.close(reader)
