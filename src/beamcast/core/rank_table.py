"""The ranks of a pool that are present, each in its latest generation.

The choice: a rank that is gone leaves the number of its generation behind, nothing else; so whatever a late process
still says is known to be stale.
"""

from beamcast.core.credit import RankChoice, RankCredit, RankMode


class RankTable:
    """Ranks by number. One thread."""

    def __init__(self, turn_frames: int = 1) -> None:
        self.present: dict[int, RankCredit] = {}
        self.choice = RankChoice(turn_frames)
        self.widest_bytes = 0
        """The largest window of those present."""
        self._generations: dict[int, int] = {}

    def get(self, rank: int, generation: int) -> RankCredit | None:
        """Return the rank if this is its present generation."""
        present = self.present.get(rank)
        return present if present is not None and present.generation == generation else None

    def is_new(self, rank: int, generation: int) -> bool:
        """Whether a generation is later than every one seen of this rank."""
        return generation > self._generations.get(rank, -1)

    def add(self, joined: RankCredit) -> None:
        """Let a rank take part; its earlier generation is gone already."""
        self._generations[joined.rank] = joined.generation
        self.present[joined.rank] = joined
        self.widest_bytes = max(self.widest_bytes, joined.window_bytes)
        self.choice.settle(joined)

    def remove(self, rank: RankCredit) -> None:
        """Forget a rank, with its credit."""
        del self.present[rank.rank]
        self.choice.remove(rank)
        self.widest_bytes = max((each.window_bytes for each in self.present.values()), default=0)

    def set_mode(self, rank: RankCredit, mode: RankMode) -> None:
        """Change what a rank may get."""
        rank.mode = mode
        self.choice.settle(rank)

    def still_has(self, key: int) -> RankCredit | None:
        """Return the rank that was silent, is awake, and still has in its queue a frame that went elsewhere."""
        for rank in self.present.values():
            if key in rank.outstanding and rank.mode is not RankMode.SILENT:
                return rank
        return None
