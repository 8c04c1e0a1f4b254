"""Which pools may change their size while frames flow, and the plan of the run afterwards. Pure.

The choice: numbers of ranks are never given away. A pool that was made smaller keeps the records of those that left;
one that grows again takes their numbers first, as later generations. So the ledger stays whole, and nobody who still
speaks of a rank can mean another one.
"""

from dataclasses import replace

from msgspec import structs

from beamcast.config.site import WorkersStart
from beamcast.config.words import nearest
from beamcast.core.errors import UsageError
from beamcast.launch.plan import RunPlan


def check_scale(plan: RunPlan, pool: str, ranks: int) -> None:
    """UsageError where a pool can't have so many ranks, saying why."""
    names = [each.name for each in plan.pools]
    if pool not in names:
        raise UsageError(f"the run has no pool {pool!r}", hint=nearest(pool, names))
    if ranks < 1:
        raise UsageError(f"{ranks} ranks: a pool has at least one", hint="`beamcast stop` ends a run")
    if not isinstance(plan.site.start, WorkersStart) or plan.site.executor != "parsl":
        raise UsageError(
            "the site starts all ranks of a pool as one job, so their number is fixed",
            hint="a site with start mode 'workers' starts each rank by itself",
        )
    one = plan.pool(pool)
    if one.role != "consumer" or one.input != "source":
        raise UsageError(
            f"pool {pool} does not read the source", hint="only pools that do may change their size"
        )
    readers = [each for each in plan.pools if pool in each.inputs]
    if any(each.parts > 1 for each in readers) or one.distribution.policy != "each":
        raise UsageError(
            f"each frame goes to several ranks of pool {pool}, and their number is part of its data"
        )
    if plan.workflow.results is not None and plan.workflow.results.pool == pool:
        raise UsageError(
            f"the result PVs are those of pool {pool}, one for each rank", hint="add a collector"
        )


def enlarged(plan: RunPlan, pool: str, ranks: int) -> RunPlan:
    """The plan with at least so many ranks in a pool; never with fewer than before."""
    pools = tuple(
        structs.replace(each, ranks=max(each.ranks, ranks)) if each.name == pool else each
        for each in plan.workflow.pools
    )
    workflow = structs.replace(plan.workflow, pools=pools)
    return replace(plan, loaded=replace(plan.loaded, workflow=workflow))
