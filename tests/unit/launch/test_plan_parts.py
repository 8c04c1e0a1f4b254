"""What follows from a workflow whose frames travel in parts: who reads what, in which order ranks connect."""

from pathlib import Path

from beamcast.cli.graph import graph
from beamcast.config.load import LoadedWorkflow
from beamcast.config.site import Site
from beamcast.config.workflow import Distribution, Pool, Source, Workflow
from beamcast.launch.plan import RunPlan
from beamcast.pva.messages import Input


def plan(*pools: Pool) -> RunPlan:
    workflow = Workflow(name="w", prefix="p", source=Source(channel="det"), pools=pools)
    return RunPlan(run="r", loaded=LoadedWorkflow(workflow, Path("w.toml"), Path()), site=Site(name="s"))


def consumer(name: str, came_from: str = "source", *, ranks: int = 1, **more: object) -> Pool:
    return Pool(name=name, role="consumer", input=came_from, ranks=ranks, **more)  # type: ignore[arg-type]


def inputs(made: RunPlan, name: str, rank: int = 0) -> tuple[Input, ...]:
    pool = made.pool(name)
    return made.inputs(pool, made.places(pool)[rank], [0] * len(made.producers(pool)))


ALL = Distribution(policy="all")
SETS = Distribution(policy="sets", sets=2)


def test_sets_of_parts_stay_together_at_one_collector_rank() -> None:
    made = plan(
        consumer("work", ranks=8, distribution=SETS),
        Pool(name="end", role="collector", input="work", ranks=2, gather=4),
    )
    for rank, producers in ((0, range(4)), (1, range(4, 8))):
        read = inputs(made, "end", rank)
        assert [one.producer for one in read] == list(producers)
        assert [one.part for one in read] == [0, 1, 2, 3]


def test_without_gather_collector_ranks_share_producers_one_by_one() -> None:
    made = plan(consumer("work", ranks=4), Pool(name="end", role="collector", input="work", ranks=2))
    assert [one.producer for one in inputs(made, "end", 1)] == [1, 3]
    assert {one.part for one in inputs(made, "end", 1)} == {0}


def test_pools_that_join_bring_a_part_each_whatever_their_ranks() -> None:
    made = plan(
        Pool(name="both", role="collector", input="left", join=("right",)),
        consumer("left", ranks=2),
        consumer("right", ranks=3),
    )
    both = made.pool("both")
    assert [pool.name for pool in made.pools] == ["left", "right", "both"]
    assert made.producers(both) == (("left", 0), ("left", 1), ("right", 0), ("right", 1), ("right", 2))
    read = inputs(made, "both")
    assert [(one.producer, one.part) for one in read] == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1)]
    assert read[3].channel == "p:right:1:output"
    assert made.producer_number(both, "right", 1) == 3
    assert both.parts == 2


def test_each_rank_reads_its_own_branch_of_every_splitter_without_the_distributor() -> None:
    made = plan(
        consumer("split", ranks=2),
        consumer("work", "split", ranks=3, input_branches=3, distribution=ALL),
    )
    assert [one.channel for one in inputs(made, "work", 0)] == ["p:split:0:output", "p:split:1:output"]
    assert [one.channel for one in inputs(made, "work", 2)] == ["p:split:0:output:2", "p:split:1:output:2"]
    assert {one.request for one in inputs(made, "work", 2)} == {"record[queueSize=1000]field()"}
    assert made.input_channel(made.pool("work")) == "p:split:*:output:*"


def test_ranks_of_a_pool_with_sets_of_several_connect_without_others_between() -> None:
    made = plan(
        consumer("a", ranks=2),
        consumer("b", ranks=4, distribution=SETS),
        consumer("c", "a"),
        consumer("d"),
    )
    after = {pool.name: made.connects_after(pool) for pool in made.pools}
    assert after == {"a": (), "b": ("a",), "c": (), "d": ("a", "b")}
    alone = plan(consumer("a", ranks=2), consumer("b", distribution=ALL))
    assert alone.connects_after(alone.pool("b")) == ()


def test_the_graph_has_every_pool_once() -> None:
    made = plan(
        consumer("left", ranks=2),
        consumer("right"),
        Pool(name="both", role="collector", input="left", join=("right",)),
    )
    [mirror] = graph(made).children
    left, right = mirror.children
    assert str(left.label).startswith("left: consumer, 2 ranks; each;")
    assert "joins left, right" in str(left.children[0].label)
    assert [str(child.label) for child in right.children] == ["… joins in both"]
