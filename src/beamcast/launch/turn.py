"""Whose turn it is to connect: the ranks of a pool join the distribution one after the other, in the order of ranks.

The choice: a mark for each pool stays at its first rank that is not usable, and moves only when that rank is. Asking
all ranks before each other at each heartbeat would cost N² for N ranks. Those next in line ask often, since each waits
for the one before it; all others ask seldom, since together they are what costs.
"""

from collections.abc import Callable, Sequence

from beamcast.config.workflow import Pool

# A pool whose ranks each have a set of their own takes turns in the order of ranks up to this size. Beyond, they
# connect as they come: whose turn is which says nothing there, and one after the other thousands would take minutes.
MOST_IN_ORDER = 256
# The next ones in line ask this often: with thousands of ranks the time to ready is mostly this wait.
NEXT_RANKS, NEXT_HEARTBEAT_S = 4, 0.01
SOON_RANKS, SOON_HEARTBEAT_S = 64, 0.1


def takes_turns(pool: Pool, *, dispatched: bool) -> bool:
    """Whether the pool's ranks have to connect one after the other. Only the distributor plugin knows turns: the
    dispatcher addresses each rank, and who gets every update needs none."""
    if pool.role == "collector" or dispatched or pool.distribution.policy == "all":
        return False
    return pool.distribution.policy != "each" or pool.ranks <= MOST_IN_ORDER


class Turns:
    """The first rank of each pool that is not usable. `usable(pool, rank)` is asked again and again."""

    def __init__(self, sizes: dict[str, int], usable: Callable[[str, int], bool]) -> None:
        self._sizes = sizes
        self._usable = usable
        self._first = dict.fromkeys(sizes, 0)

    def first_waiting(self, pool: str) -> int:
        """The first rank of the pool that is not usable; its size when all are."""
        first = self._first[pool]
        while first < self._sizes[pool] and self._usable(pool, first):
            first += 1
        self._first[pool] = first
        return first

    def may_connect(self, pool: str, rank: int, *, after: Sequence[str]) -> bool:
        """Whether all ranks before this one are usable, and all of the pools that come before its own."""
        return self.first_waiting(pool) >= rank and all(
            self.first_waiting(other) == self._sizes[other] for other in after
        )

    def back_to(self, pool: str, rank: int) -> None:
        """This rank may not be usable any more."""
        self._first[pool] = min(self._first[pool], rank)

    def heartbeat_s(self, pool: str, rank: int, *, otherwise: float) -> float:
        """How long a rank that waits may be silent."""
        ahead = rank - self.first_waiting(pool)
        if 0 <= ahead < NEXT_RANKS:
            return min(NEXT_HEARTBEAT_S, otherwise)
        return min(SOON_HEARTBEAT_S, otherwise) if 0 <= ahead < SOON_RANKS else otherwise
