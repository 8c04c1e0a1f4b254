"""What all ways to start ranks have in common."""

from collections.abc import Callable, Mapping

# Told once of each start: allocation, pool, rank (None: the whole MPI start), and an exit status or what went wrong.
OnEnd = Callable[[int, str, int | None, int | str], None]
# The generation with which each rank (pool, rank) is to begin.
Generations = Mapping[tuple[str, int], int]
