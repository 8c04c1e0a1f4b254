"""Whether the witness of the source sees what comes through.

Without its ids nobody knows which frames were lost before the mirror: a witness that sees nothing while frames come is
made anew, and whoever looks at the run is told.
"""

import logging
import time
from collections.abc import Callable

from beamcast.core.errors import DataError
from beamcast.pva.witness import Witness

logger = logging.getLogger(__name__)

# Ids travel beside the frames and not through the same queues: for this long they may be behind.
BLIND_S = 3.0
MADE_ANEW_AFTER_S = 10.0


class Sight:
    """`note` is called with every heartbeat, on its thread."""

    def __init__(
        self, witness: Witness, channel: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._witness = witness
        self._channel = channel
        self._clock = clock
        self._blind_at: float | None = None
        self._next_try = 0.0

    @property
    def blind(self) -> bool:
        """Whether frames come, and the witness has seen none of them for some time."""
        return self._blind_at is not None and self._clock() - self._blind_at > BLIND_S

    def note(self, *, seen: bool, passed: bool) -> None:
        """Whether ids were seen at the source since the last call, and whether frames came through."""
        if seen:
            self._blind_at = None
        elif passed and self._blind_at is None:
            self._blind_at = self._clock()
        if self.blind and self._clock() >= self._next_try:
            self._next_try = self._clock() + MADE_ANEW_AFTER_S
            logger.warning(
                "frames of %s come, and the monitor of their ids sees none: it is made anew", self._channel
            )
            self._witness.reopen()


def unseen_ids(channel: str, timeout_s: float) -> DataError:
    """The error of a mirror whose source appears, and no id of it."""
    return DataError(
        f"{channel} is there, and a monitor of its ids alone showed nothing within {timeout_s:g} s: what is "
        "lost before the mirror could not be counted",
        hint="is id_field under [source] a field of this channel, and does its server serve several monitors at once? "
        "logs/mirror.log has what pvaccess says",
    )


def witness_facts(witness: Witness | None, sight: Sight | None) -> dict[str, float]:
    """What a member that watches its source tells of that beside the ids."""
    if witness is None:
        return {}
    facts = {"repeated": float(witness.repeated), "repeated_id": float(witness.repeated_id)}
    return facts | {"blind": float(sight is not None and sight.blind)}
