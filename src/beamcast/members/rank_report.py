"""What a rank reports of itself: counters and facts, read from its parts without a lock."""

from beamcast.core.keyset import encode_keys
from beamcast.members.rank_parts import RankParts
from beamcast.pools.counting import count
from beamcast.pools.tally import take_keys
from beamcast.pva.messages import Counters


class RankReport:
    """Of one rank; on the heartbeat thread."""

    def __init__(self, parts: RankParts) -> None:
        self._parts = parts

    def counters(self) -> Counters:
        """Since the start."""
        parts = self._parts
        return count(parts.inputs, parts.tally, parts.work, parts.output, parts.loop, parts.window)

    def facts(self) -> dict[str, float]:
        """What only some ranks have to say."""
        parts, facts = self._parts, {}
        if parts.gatherer is not None:
            facts["incomplete"] = float(parts.gatherer.incomplete)
        if parts.admit is not None:
            facts["sealed_refused"] = float(parts.admit.refused)
        if parts.feed is not None and parts.joined is not None:
            facts["metadata_unmatched"] = float(parts.joined.unmatched)
            facts["metadata_waited_s"] = round(parts.feed.waited_s, 3)
        return facts

    def gathered(self) -> dict[int, bytes]:
        """What a collector received since the last call, by the producer's rank: serialised bitmaps."""
        taken = {producer: take_keys(keys) for producer, keys in self._parts.inputs.gathered.items()}
        return {producer: encode_keys(keys) for producer, keys in taken.items() if keys}

    def last_id(self) -> int | None:
        """The id of the last update that came."""
        channels = self._parts.inputs.channels
        return channels[0].tracker.last if channels else None

    def reached(self) -> int | None:
        """The key of the last frame whose output may be out: not of one that waits for its batch or for its turn."""
        parts = self._parts
        if parts.window is not None and parts.window.top is not None:
            return parts.window.top
        held = parts.tally.held[:1]
        return held[0] if held else parts.inputs.reached()

    @property
    def waiting(self) -> int:
        """Frames that wait for this rank, and results that wait to be pushed."""
        parts = self._parts
        return parts.loop.queued + (parts.pusher.waiting if parts.pusher is not None else 0)
