"""Frames that may be poison: their last attempt is made alone.

The choice: when a rank dies, every frame it had gets a strike, since nobody knows which one killed it. So the
neighbours of a poison frame gather strikes too. A frame that is one strike from failing is sent to a rank that has
nothing else: if that rank dies as well, it was this frame. One rank at a time is set apart; the others go on.
"""

from beamcast.core.credit import RankCredit, RankMode
from beamcast.core.rank_table import RankTable


class ProofRank:
    """The rank set apart for frames that may be poison; often none."""

    __slots__ = ("_rank", "_ranks")

    def __init__(self, ranks: RankTable) -> None:
        self._ranks = ranks
        self._rank: RankCredit | None = None

    @property
    def is_set(self) -> bool:
        """Whether a rank is set apart."""
        return self._rank is not None

    def ready_for(self, size_bytes: int) -> RankCredit | None:
        """Return a rank that has nothing in hand and is set apart; None while one has to be waited for."""
        rank = self._rank
        if rank is not None and not rank.outstanding and rank.window_bytes < size_bytes:
            self.let_go()
        if self._rank is None:
            self._rank = self._soonest_done(size_bytes)
            if self._rank is not None:
                self._ranks.set_mode(self._rank, RankMode.RESERVED)
        rank = self._rank
        return rank if rank is not None and not rank.outstanding else None

    def let_go(self) -> None:
        """Give the rank back to the others, unless it still has something in hand."""
        if self._rank is not None and not self._rank.outstanding:
            self._ranks.set_mode(self._rank, RankMode.OPEN)
            self._rank = None

    def forget(self, rank: RankCredit) -> None:
        """A rank is silent, leaving or gone; if it was this one, it is so no more. Its mode is the caller's."""
        if self._rank is rank:
            self._rank = None

    def _soonest_done(self, size_bytes: int) -> RankCredit | None:
        able = (
            rank
            for rank in self._ranks.present.values()
            if rank.mode is RankMode.OPEN and rank.window_bytes >= size_bytes
        )
        return min(able, key=lambda rank: len(rank.outstanding), default=None)
