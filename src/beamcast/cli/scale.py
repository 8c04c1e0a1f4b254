"""`beamcast scale`: another number of ranks for a pool, while frames flow."""

import time
from typing import Annotated

import typer

from beamcast.cli.query import RunArgument
from beamcast.cli.runline import RunLine, find_run
from beamcast.core.errors import UsageError, WorldError
from beamcast.observe.report import Report
from beamcast.pva.messages import Scale, Scaled

POLL_S = 0.3


def scale(
    run: RunArgument,
    ranks: Annotated[int, typer.Argument(min=1, help="How many ranks the pool is to have.")],
    pool: Annotated[str, typer.Option("--pool", help="The pool.")],
    wait: Annotated[float, typer.Option("--wait", help="Seconds to wait until it is so; 0: don't.")] = 60.0,
) -> None:
    """Add ranks to a pool, or remove some, while the run goes on. Those that leave finish what they have."""
    line = RunLine(find_run(run))
    answer = line.command(Scale(pool=pool, ranks=ranks))
    if not isinstance(answer, Scaled):
        raise WorldError(f"the controller answered with {type(answer).__name__}")
    if answer.refused:
        raise UsageError(answer.refused)
    print(f"pool {pool}: {_news(answer)}")
    deadline = time.monotonic() + wait
    while wait and not _is_so(line.look().report, pool, ranks):
        if time.monotonic() > deadline:
            raise WorldError(
                f"pool {pool} has not got {ranks} ranks within {wait:g} s",
                hint="an allocation for them may be queued: `beamcast status` shows it. The run goes on meanwhile",
            )
        time.sleep(POLL_S)
    if wait:
        print(f"pool {pool} has {ranks} ranks")


def _news(answer: Scaled) -> str:
    words = []
    if answer.coming:
        words.append(f"{answer.coming} more ranks are asked for, in an allocation of their own")
    if answer.leaving:
        words.append(f"{answer.leaving} ranks leave as soon as what they have is done")
    return "; ".join(words) or "it has as many ranks already"


def _is_so(report: Report | None, pool: str, ranks: int) -> bool:
    if report is None:
        return False
    states = [rank.state for each in report.pools if each.name == pool for rank in each.ranks]
    present = [state for state in states if state != "left"]
    return len(present) == ranks and all(state in ("ready", "running") for state in present)
