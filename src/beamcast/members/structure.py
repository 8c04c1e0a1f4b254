"""A source whose frames do not come through any more, because it has come back with another structure.

pvAccess says nothing of it: a monitor whose request does not fit any more is not made, and the C++ mirror drops what
does not fit its record. What still comes is the id, which a witness reads by itself. So when ids come and no frames,
the source is looked at once more.
"""

import time
from collections.abc import Callable
from typing import Any

from beamcast.core.errors import DataError, WorldError
from beamcast.pools.inputs import look_at

# So long no frame may pass while ids are seen; and so long until the next look, should the structure be the same.
STALLED_S = 2.0
LOOK_AGAIN_S = 30.0
# Whoever looks serves nobody meanwhile. A source that takes longer has another trouble, or very large frames.
LOOK_FOR_S = 1.0


class StructureWatch:
    """`note` is for the heartbeat thread, `check` for the one that serves."""

    def __init__(self, channel: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._channel = channel
        self._clock = clock
        self._structure: Any = None
        self._look_at: float | None = None
        self._doubted = False

    def begin(self, update: Any) -> None:
        """The structure that frames have, from an update of the source."""
        self._structure = update.getStructureDict()

    def note(self, *, seen: bool, passed: bool) -> None:
        """Whether ids were seen at the source since the last call, and whether frames have passed."""
        if self._doubted:
            return
        if passed:
            self._look_at = None
        elif seen and self._look_at is None:
            self._look_at = self._clock() + STALLED_S

    def doubt(self) -> None:
        """The source has come back: look at it with the next `check`."""
        self._doubted, self._look_at = True, self._clock()

    def check(self, should_stop: Callable[[], bool]) -> None:
        """Look at the source if it is time, for up to `LOOK_FOR_S`: DataError when its structure has changed."""
        due = self._look_at
        if self._structure is None or due is None or self._clock() < due:
            return
        try:
            seen = look_at(self._channel, timeout_s=LOOK_FOR_S, should_stop=should_stop)
        except WorldError:
            # It is gone, or its link is: there is time when ids are seen again.
            self._look_at = self._clock() + STALLED_S if self._doubted else None
            return
        self._doubted = False
        if seen is not None and seen.getStructureDict() != self._structure:
            raise structure_changed(self._channel, "frames do not come through any more")
        self._look_at = self._clock() + LOOK_AGAIN_S


def structure_changed(channel: str, why: str) -> DataError:
    """The error of both mirrors."""
    return DataError(
        f"the structure of {channel} has changed: {why}",
        hint="start the run again: ranks and records are made for the structure that came first",
    )
