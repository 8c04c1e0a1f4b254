"""`open` of a pool: what it reads is opened before any processor sees it. `beamcast.pools.output_seal` has the rest.

An update that can't be opened is a failed frame: the processor never sees it, and the report says why.
"""

from pathlib import Path
from typing import Any

from beamcast.core.errors import DataError
from beamcast.core.ids import FrameKey
from beamcast.pools.work import Work
from beamcast.pva.sealed import NdArrayOpener, ObjectOpener, is_ndarray
from beamcast.security.envelope import SealError
from beamcast.security.keys import KeyRing
from beamcast.security.opening import Opener


class PoolOpener:
    """Opens what a rank reads. For the frame loop's thread."""

    def __init__(self, key_file: Path) -> None:
        """UsageError where the file can't be used."""
        self._opener = Opener(KeyRing.read(key_file))
        self._ndarrays = NdArrayOpener(self._opener)
        self._objects = ObjectOpener(self._opener)

    def look(self, probe: Any) -> Any:
        """What output records are made like: the first update, opened without a trace.

        An image that can't be opened has the right structure as it is; its frames will fail one by one. DataError for
        other objects that are not sealed, SealError for those that can't be opened.
        """
        if not is_ndarray(probe):
            return self._object(probe, look_only=True)
        try:
            return self._ndarrays.open(probe.copy(), look_only=True)
        except SealError:
            return probe

    def open(self, pv: Any) -> Any:
        """The update as it was before sealing, an NTNDArray in place. SealError or DataError when it is not good."""
        return self._ndarrays.open(pv) if is_ndarray(pv) else self._object(pv, look_only=False)

    def _object(self, pv: Any, *, look_only: bool) -> Any:
        if not pv.hasField("sealed"):
            raise DataError(
                "the pool opens what it reads, but its input is not sealed",
                hint="set `seal` at the pool before it, or leave out `open`",
            )
        return self._objects.open(pv, look_only=look_only)

    def close(self) -> None:
        """End the helper threads."""
        self._opener.close()


class OpenedWork(Work):
    """The frame path of a rank that opens what it reads: good updates go on to `inner`, others are failed frames."""

    __slots__ = ("_inner", "_open", "refused")

    def __init__(self, inner: Work, opener: PoolOpener) -> None:
        self._inner = inner
        self._open = opener.open
        self.refused = 0
        super().__init__(inner.processor, inner.output, inner.tally)

    @property
    def busy_s(self) -> float:
        """The time of both: who waits inside for something else takes that off there."""
        return self._inner.busy_s

    @busy_s.setter
    def busy_s(self, seconds: float) -> None:
        self._inner.busy_s = seconds

    @property
    def waiting(self) -> int:
        """Frames of the batch that is being filled."""
        return self._inner.waiting

    def flush(self) -> None:
        """Process the frames that wait."""
        self._inner.flush()

    def do(self, pv: Any, key: FrameKey) -> None:
        """Open one update, or all parts of a gathered frame, and process it."""
        try:
            opened = [self._open(part) for part in pv] if isinstance(pv, list | tuple) else self._open(pv)
        except DataError as error:
            self.refused += 1
            self._failed(key, error)
            return
        self._inner.do(opened, key)
