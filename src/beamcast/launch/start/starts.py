"""What all ways to start ranks have in common."""

from collections.abc import Callable, Mapping

from beamcast.launch.jobs.words import UNKNOWN, JobWord

# Told once of each start: allocation, pool, rank (None: the whole MPI start), and an exit status or what went wrong.
OnEnd = Callable[[int, str, int | None, int | str], None]
# The generation with which each rank (pool, rank) is to begin.
Generations = Mapping[tuple[str, int], int]


class OthersAllocation:
    """One allocation that somebody else asks for, and of which we hear nothing: the ranks' heartbeats alone tell."""

    def ask(self) -> tuple[int, str]:
        """Number 1, however many jobs it may be; no job that we know."""
        return 1, ""

    def ask_of(self, job: str) -> JobWord:
        """Nobody knows."""
        return UNKNOWN

    def release(self, allocation: int) -> None:
        """It is not ours to give back: it ends with its ranks."""

    def abandon(self) -> None:
        """Nothing of ours runs there."""

    def complaint(self, allocation: int) -> str:
        """What it says is told to whoever started it."""
        return ""
