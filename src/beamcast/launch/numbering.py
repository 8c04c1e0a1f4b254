"""Which epoch a rank begins in when it joins while the stream flows, where everybody counts epochs. Pure, no clock.

The choice: ids may begin again with each scan, so an id alone does not say which scan it is of. The rank looks at its
input before it takes part and tells which id it saw. The mirror, which has seen every frame, has said which epoch it
was before that look, and says it again after it: where both are the same, that is the epoch of the id. Where a scan has
begun in between, an id that is higher than any of the new scan is of the one before. The rank and its readers are told
the key of that frame, and count from there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from beamcast.core.ids import ID_BITS, ID_MASK, Epoch, FrameId, frame_key, split_key

# How much later than the look the mirror has to be heard: longer than what it says may have been on its way.
SURE_S = 0.15


def first_of_latest(reached: Iterable[int | None]) -> int:
    """Of the keys that several producers have got to: the lowest one of the latest epoch. Whoever gathers what they
    send sends nothing of that epoch from before it."""
    keys = [key for key in reached if key is not None]
    latest = max(keys, default=0) >> ID_BITS
    return min((key for key in keys if key >> ID_BITS == latest), default=0)


@dataclass(slots=True)
class Numbering:
    """Of one generation of a rank. `late`: it has joined while frames flowed. `after`: the key of the frame that it
    begins after; `reached`: the one that it has got to. `inputs`: where it begins to count what a generation of a
    producer sends."""

    late: bool = False
    after: int | None = None
    reached: int | None = None
    inputs: dict[tuple[int, int], int | None] = field(default_factory=dict)
    _look: tuple[int, Epoch, float] | None = None

    def begin_after(self, key: int) -> None:
        """The frame is known. A second one is ignored."""
        if self.after is None:
            self.after = self.reached = key

    def settle(self, looked: int | None, mirror: int, *, mirror_at: float, now: float) -> bool:
        """The rank has seen the id `looked`, or none; the last frame of the mirror, as it said at `mirror_at`, is
        `mirror`. Whether the rank's epoch is known."""
        if self.after is not None:
            return True
        epoch, last = split_key(mirror)  # type: ignore[arg-type]
        if looked is None:
            self.begin_after(mirror)
            return True
        if self._look is None:
            self._look = (looked & ID_MASK, epoch, now)
            return False
        seen, before, at = self._look
        if mirror_at < at + SURE_S:
            return False
        self.begin_after(frame_key(epoch if seen <= last else before, FrameId(seen)))
        return True
