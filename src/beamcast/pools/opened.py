"""`open` of a pool: what it reads is opened before any processor sees it. `beamcast.pools.output_seal` has the rest.

An update that can't be opened is a failed frame: the processor never sees it, and the report says why.
"""

import logging
from pathlib import Path
from typing import Any

from beamcast.core.errors import DataError
from beamcast.core.ids import EpochTracker, FixedEpoch
from beamcast.pools.work import Work
from beamcast.pva.sealed import NdArrayOpener, ObjectOpener, is_ndarray
from beamcast.security.envelope import Replayed, SealError
from beamcast.security.keys import KeyRing
from beamcast.security.opening import Opener

logger = logging.getLogger(__name__)


class PoolOpener:
    """Opens what a rank reads. For the frame loop's thread."""

    def __init__(self, key_file: Path, *, repeats: bool = False) -> None:
        """`repeats`: updates that were opened before are opened again, since who sends them sends them again with good
        reason, and knows which ones. UsageError where the file can't be used."""
        self._repeats = repeats
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
        if is_ndarray(pv):
            return self._ndarrays.open(pv, look_only=self._repeats)
        return self._object(pv, look_only=self._repeats)

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


class Admission:
    """Opens updates before their ids are believed: what a forger sends, or plays once more, would begin a new epoch,
    and no frame after it would be known any more.

    An update that can't be opened is a failed frame, under the id that it claims. One that was opened before is a
    duplicate. Neither goes any further.
    """

    def __init__(self, opener: PoolOpener, work: Work) -> None:
        self._open = opener.open
        self._work = work
        self.refused = 0

    def __call__(self, pv: Any, frame_id: Any, tracker: EpochTracker | FixedEpoch) -> Any:
        """The update as it was before sealing; None for one that is refused."""
        try:
            return self._open(pv)
        except Replayed as error:
            self._work.tally.duplicates += 1
            if not self.refused:
                logger.warning("an update is refused: %s", error)
        except DataError as error:
            self._work.fail(tracker.claimed(frame_id), error)
        self.refused += 1
        return None
