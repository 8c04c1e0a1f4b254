"""The books of a run on disk: what the next controller has to know when this one is killed.

The choice: all of the ledger, written anew about once a second, and not each event. Frames are many, sets of them are
small, and what is newer than the books the mirror and the result server have in their journals. What only ranks knew
(that a frame was dropped on purpose, or failed) and had reported in the last second is forgotten: such frames are
named as lost.
"""

from pathlib import Path

import msgspec

from beamcast.core.errors import DataError, UsageError
from beamcast.core.ledger_state import LedgerState
from beamcast.observe.report import FailedFrameReport

BOOKS_FILE = "books"
PERIOD_S, PERIOD_S_PER_RANK = 1.0, 0.001
VERSION = 2


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """`base`: where relative paths of the workflow start. `resumed`: how many controllers have been before this one.
    `ledger` is None until frames count."""

    version: int
    run: str
    base: str
    resumed: int = 0
    ledger: LedgerState | None = None
    failed_frames: tuple[FailedFrameReport, ...] = ()


def read_books(run_dir: Path) -> Books:
    """What a controller has left; UsageError when there is nothing, DataError when it can't be read."""
    path = run_dir / BOOKS_FILE
    try:
        books = msgspec.msgpack.decode(path.read_bytes(), type=Books)
    except FileNotFoundError:
        raise UsageError(
            f"{run_dir} has no books: this run can't be resumed",
            hint='runs with delivery = "at-least-once" keep them',
        ) from None
    except msgspec.MsgspecError as error:
        raise DataError(f"the books of the run can't be read: {path}: {error}") from error
    if books.version != VERSION:
        raise DataError(f"the books of the run are of version {books.version}, not {VERSION}: {path}")
    return books


class BooksFile:
    """Writes the books when it is time. One thread."""

    def __init__(self, run_dir: Path, *, ranks: int) -> None:
        self._path = run_dir / BOOKS_FILE
        self._period_s = max(PERIOD_S, PERIOD_S_PER_RANK * ranks)
        self._written_at = self._tried_at = -1.0

    def due(self, now: float, *, changed_at: float) -> bool:
        """Whether something has changed, and the last time is long enough ago."""
        return changed_at > self._written_at and now - self._tried_at >= self._period_s

    def write(self, books: Books, *, now: float) -> None:
        """Write them so that a reader sees all or nothing. OSError when the disk refuses; the older ones are there
        then, and the next try is due a period later."""
        self._tried_at = now
        partial = self._path.with_suffix(".partial")
        partial.write_bytes(msgspec.msgpack.encode(books))
        partial.replace(self._path)
        self._written_at = now
