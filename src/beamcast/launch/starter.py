"""How the ranks of a run are started: the site's executor decides."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, Self

from beamcast.launch.external import ExternalStart, OnEnd
from beamcast.launch.plan import RunPlan


class Starter(AbstractContextManager["Starter"], Protocol):
    """What the controller needs of each of them."""

    def __enter__(self) -> Self: ...

    def start(self, on_end: OnEnd) -> int:
        """Start all ranks; returns of how many starts `on_end(pool, rank, status)` will tell the end, once each."""
        ...

    def replace(self, generations: Mapping[tuple[str, int], int], on_end: OnEnd) -> int:
        """Start ranks (pool, rank) that have lost their allocation again, with these generations."""
        ...

    def allocations(self) -> dict[str, frozenset[tuple[str, int]]]:
        """The ranks (pool, rank) of each allocation that can be asked about; none where nobody can."""
        ...

    def ask_about(self, block: str) -> str | None:
        """How an allocation has ended, as its scheduler says; None when it runs, or nobody knows."""
        ...

    def give_up(self, block: str) -> frozenset[tuple[str, int]]:
        """An allocation is gone: returns the ranks that were in it, of which `on_end` tells nothing more."""
        ...


def make_starter(
    plan: RunPlan, run_dir: Path, *, address: str, reached: str | None = None, port: int | None = None
) -> Starter:
    """The site's way; `address`, `reached` and `port` are for Parsl's workers, as `ParslStart` has them."""
    match plan.site.executor:
        case "external":
            return ExternalStart(plan, run_dir)
    from beamcast.launch.parsl_start import ParslStart

    return ParslStart(plan, run_dir, address=address, reached=reached, port=port)
