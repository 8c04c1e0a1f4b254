"""How the ranks of a run are started: the site's executor decides."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from beamcast.launch.jobs.words import JobWord
from beamcast.launch.plan import RunPlan
from beamcast.launch.start.external import ExternalStart
from beamcast.launch.start.starts import Generations, OnEnd


class Starter(AbstractContextManager["Starter"], Protocol):
    """What the controller needs of each of them."""

    def __enter__(self) -> Self: ...

    def ask(self) -> tuple[int, str]:
        """Ask for an allocation; returns its number, counted from 1, and the scheduler's id of the job ("": there is
        none that we know). WorldError, with the scheduler's words, when it is refused. May take seconds."""
        ...

    def start(self, allocation: int, generations: Generations, on_end: OnEnd) -> int:
        """Start ranks in an allocation; returns of how many starts `on_end` will tell the end, once each."""
        ...

    def ask_of(self, job: str) -> JobWord:
        """What became of an allocation of which no scheduler knows."""
        ...

    def release(self, allocation: int) -> None:
        """Give an allocation back. May take seconds."""
        ...

    def abandon(self) -> None:
        """End everything of ours within a few seconds, waiting for nothing. From any thread; the process ends then."""
        ...

    def complaint(self, allocation: int) -> str:
        """The last lines of what its job said; "" where there are none."""
        ...


@runtime_checkable
class GrowingStarter(Starter, Protocol):
    """One that starts ranks one by one, and so more of them later."""

    def extend(self, plan: RunPlan, ranks: Sequence[tuple[str, int]]) -> None:
        """These ranks (pool, number) will be started together in an allocation of their own, at most `room` of them."""
        ...

    @property
    def room(self) -> int:
        """How many ranks one allocation can take."""
        ...


def make_starter(
    plan: RunPlan, run_dir: Path, *, address: str, reached: str | None = None, port: int | None = None
) -> Starter:
    """The site's way; `address`, `reached` and `port` are for Parsl's workers, as `ParslStart` has them."""
    match plan.site.executor:
        case "external":
            return ExternalStart(plan, run_dir)
        case "globus-compute":
            from beamcast.launch.start.globus import GlobusStart

            return GlobusStart(plan, run_dir)
    from beamcast.launch.start.parsl_start import ParslStart

    return ParslStart(plan, run_dir, address=address, reached=reached, port=port)
