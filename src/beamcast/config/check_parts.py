"""The rules for frames that several ranks share: parts that are gathered, branches, at-least-once delivery."""

from collections.abc import Iterator

from beamcast.config.words import shown
from beamcast.config.workflow import Pool, Workflow
from beamcast.core.errors import Problem


def parts_fit(workflow: Workflow) -> Iterator[Problem]:
    """What a collector puts together has to come, and to come to one and the same rank."""
    pools = {pool.name: pool for pool in workflow.pools}
    for index, pool in enumerate(workflow.pools):
        if pool.parts > 1 and pool.role == "consumer":
            yield Problem("only a collector puts parts of frames together", _at(index, "role"))
        if pool.join and pool.ranks > 1:
            yield Problem(
                f"the parts of a frame would come to {pool.ranks} ranks", _at(index, "ranks"), "Set 1"
            )
        for name in pool.inputs if pool.gather is not None else ():
            if name in pools:
                yield from _set_is_gathered(pools[name], pool, index)


def _set_is_gathered(producers: Pool, pool: Pool, index: int) -> Iterator[Problem]:
    shared, gather = producers.distribution, pool.gather or 1
    size = producers.ranks if shared.policy == "all" else producers.ranks // (shared.sets or 1)
    if shared.policy not in ("all", "sets"):
        message = f"pool {shown(producers.name)} has policy '{shared.policy}': its ranks do not share frames in parts"
        yield Problem(
            message, _at(index, "gather"), "Policy 'all', or 'sets', sends a frame to several ranks"
        )
    elif size != gather or producers.ranks % gather:
        message = f"{gather} parts are gathered, but pool {shown(producers.name)} works with {producers.ranks} ranks"
        sets = f" in {shared.sets} sets" if shared.sets else " at a frame"
        yield Problem(message + sets, _at(index, "gather"))
    elif producers.ranks // gather % pool.ranks:
        message = f"{producers.ranks // gather} sets can't be shared out among {pool.ranks} ranks"
        yield Problem(message, _at(index, "ranks"))


def collectors_gather(workflow: Workflow) -> Iterator[Problem]:
    """The ranks of a collector share the ranks of its input out among themselves: each needs one."""
    ranks = {pool.name: pool.ranks for pool in workflow.pools}
    for index, pool in enumerate(workflow.pools):
        if pool.role != "collector" or pool.gather is not None or not ranks.keys() >= set(pool.inputs):
            continue
        producers = sum(ranks[name] for name in pool.inputs)
        if pool.ranks > producers:
            message = f"{pool.ranks} ranks share the outputs of {producers}, so some would gather nothing"
            yield Problem(message, _at(index, "ranks"), f"Set {producers} or fewer")


def branches_fit(workflow: Workflow) -> Iterator[Problem]:
    """Where each rank reads an output of its own, there are as many of the one as of the other."""
    for index, pool in enumerate(workflow.pools):
        branches, where = pool.input_branches, _at(index, "input_branches")
        if branches is None:
            continue
        if pool.role == "collector" or pool.input == "source":
            yield Problem("only a consumer of another pool's outputs has branches to share out", where)
        if pool.ranks != branches:
            yield Problem(f"{branches} branches need {branches} ranks, and the pool has {pool.ranks}", where)
        if pool.input_branch:
            yield Problem(
                "each rank has a branch of its own already", _at(index, "input_branch"), "Leave it out"
            )
        if pool.distribution.policy != "all":
            message = "with branches every rank gets its part of every frame"
            yield Problem(message, _at(index, "distribution.policy"), "Write policy = 'all'")


def results_come_once(workflow: Workflow) -> Iterator[Problem]:
    """At-least-once delivery may make a result twice; the C++ mirror would pass both on."""
    results = workflow.results
    if results is not None and results.by == "mirror" and workflow.delivery == "at-least-once":
        hint = "Use 'monitor' or 'push', which publish each result once, or leave it out"
        yield Problem("'mirror' does not go with at-least-once delivery", "results.by", hint)


def frames_can_be_repeated(workflow: Workflow) -> Iterator[Problem]:
    """What at-least-once delivery asks of the pools: one rank answers for a frame."""
    if workflow.delivery != "at-least-once":
        return
    read = {name for pool in workflow.pools for name in pool.inputs}
    for index, pool in enumerate(workflow.pools):
        policy, where = pool.distribution.policy, _at(index, "distribution.policy")
        if pool.role == "consumer" and policy != "each" and pool.input == "source":
            message = f"at-least-once delivery gives a frame to one rank, policy '{policy}' to several"
            yield Problem(message, where, "Put a pass-through pool before it, or deliver at-most-once")
        elif pool.role == "consumer" and policy != "each" and pool.name not in read:
            message = (
                f"nobody gathers what the ranks of policy '{policy}' make of a frame: none can say it is done"
            )
            yield Problem(message, where, "Let a collector gather it, or deliver at-most-once")
        if pool.join:
            message = "at-least-once delivery follows each pool of the source to one end, and they join here"
            yield Problem(message, _at(index, "join"), "Deliver at-most-once")


def stacks_fit(workflow: Workflow) -> Iterator[Problem]:
    """Where frames may travel in stacks, and that a rank can hold two."""
    for index, pool in enumerate(workflow.pools):
        if pool.batch == 1:
            continue
        where = _at(index, "batch")
        if workflow.delivery != "at-least-once":
            message = "frames are stacked by the dispatcher, which at-most-once delivery does not have"
            yield Problem(message, where, "Write delivery = 'at-least-once', or leave batch out")
        elif pool.input != "source":
            message = f"frames are stacked on their way from the source, and this pool reads '{pool.input}'"
            yield Problem(message, where, "Give batch to the pool that reads the source")
        elif pool.window < 2 * pool.batch:
            message = (
                f"a rank that may hold {pool.window} frames waits while a stack of {pool.batch} is on its way"
            )
            yield Problem(message, _at(index, "window"), f"Write window = {4 * pool.batch}")


def _at(index: int, field: str) -> str:
    return f"pools[{index}].{field}"
