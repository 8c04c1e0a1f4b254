"""`beamcast plan --graph`: who reads whom, as a tree. A pool that joins several is drawn under the first of them."""

from rich.tree import Tree

from beamcast.config.workflow import Pool
from beamcast.launch.plan import RunPlan


def graph(plan: RunPlan) -> Tree:
    """The source with everything that follows from it."""
    root = Tree(f"source {plan.source_channel}")
    mirror = root.add("dispatcher" if plan.dispatches else f"mirror {plan.mirror_channel}")
    branches = {"source": mirror}
    for pool in plan.pools:
        branches[pool.name] = branches[pool.input].add(_line(plan, pool))
        for name in pool.join:
            branches[name].add(f"… joins in {pool.name}")
    return root


def _line(plan: RunPlan, pool: Pool) -> str:
    ranks = f"{pool.ranks} ranks" if pool.ranks > 1 else "1 rank"
    words = [f"{pool.role}, {ranks}", *_inputs(pool), pool.processor]
    results = plan.workflow.results
    if results is not None and results.pool == pool.name:
        words.append("result " + ", ".join(plan.results().values()))
    return f"{pool.name}: {'; '.join(words)}"


def _inputs(pool: Pool) -> list[str]:
    """How frames come to the ranks, where it is not one after the other."""
    shared = pool.distribution
    words = []
    if pool.role == "consumer" and pool.ranks > 1:
        words.append(f"{shared.sets} sets" if shared.policy == "sets" else shared.policy)
    if shared.updates > 1:
        words.append(f"{shared.updates} frames a turn")
    if pool.input_branches is not None:
        words.append(f"a branch of {pool.input} each")
    elif pool.input_branch:
        words.append(f"branch {pool.input_branch} of {pool.input}")
    if pool.gather is not None:
        words.append(f"gathers {pool.gather} parts")
    if pool.join:
        words.append(f"joins {', '.join(pool.inputs)}")
    return words
