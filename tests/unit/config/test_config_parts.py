"""Rules for frames that several ranks share."""

from pathlib import Path

import msgspec
import pytest

from beamcast.config.check import check_workflow
from beamcast.config.load import LoadedWorkflow
from beamcast.config.units import dec_hook
from beamcast.config.workflow import Workflow
from beamcast.core.errors import ConfigError

ALL = {"policy": "all"}
SETS = {"policy": "sets", "sets": 2}


def pool(name: str, came_from: str = "source", role: str = "consumer", **more: object) -> dict[str, object]:
    return {"name": name, "role": role, "input": came_from, **more}


def collector(came_from: str = "work", **more: object) -> dict[str, object]:
    return pool("stitch", came_from, "collector", **more)


def workflow(*pools: dict[str, object], **more: object) -> Workflow:
    tree = {"name": "demo", "source": {"channel": "det:image"}, "pools": list(pools), **more}
    return msgspec.convert(tree, Workflow, dec_hook=dec_hook)


def problems(made: Workflow) -> list[str]:
    try:
        check_workflow(LoadedWorkflow(made, Path("workflow.toml"), Path()))
    except ConfigError as error:
        return [line.removeprefix("workflow.toml: ") for line in str(error).splitlines()]
    return []


AT_LEAST_ONCE = {"delivery": "at-least-once"}
GOOD = [
    workflow(pool("work", ranks=4, distribution=ALL), collector(gather=4)),
    workflow(pool("work", ranks=8, distribution=SETS), collector(gather=4, ranks=2)),
    workflow(pool("split"), pool("work", "split", ranks=2, input_branches=2, distribution=ALL), collector(gather=2)),
    workflow(pool("work"), pool("also"), collector(join=["also"])),
    workflow(
        pool("split"), pool("work", "split", ranks=2, distribution=ALL), collector(gather=2), **AT_LEAST_ONCE
    ),
]  # fmt: skip


@pytest.mark.parametrize("made", GOOD)
def test_good_workflows(made: Workflow) -> None:
    assert problems(made) == []


BAD = [
    (
        workflow(pool("work", ranks=4), collector(gather=4)),
        "pools[1].gather: pool 'work' has policy 'each': its ranks do not share frames in parts. "
        "Policy 'all', or 'sets', sends a frame to several ranks",
    ),
    (
        workflow(pool("work", ranks=4, distribution=ALL), collector(gather=2)),
        "pools[1].gather: 2 parts are gathered, but pool 'work' works with 4 ranks at a frame",
    ),
    (
        workflow(pool("work", ranks=5, distribution=SETS), collector(gather=2)),
        "pools[1].gather: 2 parts are gathered, but pool 'work' works with 5 ranks in 2 sets",
    ),
    (
        workflow(pool("work", ranks=4, distribution=ALL), collector(gather=4, ranks=2)),
        "pools[1].ranks: 1 sets can't be shared out among 2 ranks",
    ),
    (
        workflow(pool("work", ranks=2, distribution=ALL), pool("more", "work", gather=2)),
        "pools[1].role: only a collector puts parts of frames together",
    ),
    (
        workflow(pool("work"), pool("also"), collector(join=["also"], ranks=2)),
        "pools[2].ranks: the parts of a frame would come to 2 ranks. Set 1",
    ),
    (
        workflow(pool("work"), collector(join=["wrok"])),
        "pools[1].join[0]: no other pool is named 'wrok'. Did you mean 'work'? (valid: work)",
    ),
    (
        workflow(pool("work"), collector(join=["work"])),
        "pools[1].join[0]: 'work' is an input already. Each input brings one part",
    ),
    (
        workflow(pool("work"), pool("also", "stitch"), collector(join=["also"])),
        "pools[1].input: pools read each other's output in a loop: also -> stitch -> also. "
        "One of them has to read from 'source'",
    ),
    (
        workflow(pool("split"), pool("work", "split", ranks=3, input_branches=2, distribution=ALL)),
        "pools[1].input_branches: 2 branches need 2 ranks, and the pool has 3",
    ),
    (
        workflow(pool("split"), pool("work", "split", ranks=2, input_branches=2)),
        "pools[1].distribution.policy: with branches every rank gets its part of every frame. "
        "Write policy = 'all'",
    ),
    (
        workflow(pool("split"), pool("work", "split", ranks=2, input_branches=2, input_branch=1, distribution=ALL)),
        "pools[1].input_branch: each rank has a branch of its own already. Leave it out",
    ),
    (
        workflow(pool("work", ranks=2, input_branches=2, distribution=ALL)),
        "pools[0].input_branches: only a consumer of another pool's outputs has branches to share out",
    ),
    (
        workflow(pool("work", ranks=2, distribution=ALL), **AT_LEAST_ONCE),
        "pools[0].distribution.policy: at-least-once delivery gives a frame to one rank, policy 'all' to several. "
        "Put a pass-through pool before it, or deliver at-most-once",
    ),
    (
        workflow(pool("work"), pool("end", "work", ranks=2, distribution=ALL), **AT_LEAST_ONCE),
        "pools[1].distribution.policy: nobody gathers what the ranks of policy 'all' make of a frame: none can say it "
        "is done. Let a collector gather it, or deliver at-most-once",
    ),
    (
        workflow(pool("work"), pool("also"), collector(join=["also"]), **AT_LEAST_ONCE),
        "pools[2].join: at-least-once delivery follows each pool of the source to one end, and they join here. "
        "Deliver at-most-once",
    ),
    (
        workflow(pool("work", batch=16)),
        "pools[0].batch: frames are stacked by the dispatcher, which at-most-once delivery does not have. "
        "Write delivery = 'at-least-once', or leave batch out",
    ),
    (
        workflow(pool("work"), pool("end", "work", batch=16), **AT_LEAST_ONCE),
        "pools[1].batch: frames are stacked on their way from the source, and this pool reads 'work'. "
        "Give batch to the pool that reads the source",
    ),
    (
        workflow(pool("work", batch=40), **AT_LEAST_ONCE),
        "pools[0].window: a rank that may hold 64 frames waits while a stack of 40 is on its way. Write window = 160",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("made", "problem"), BAD)
def test_bad_workflows(made: Workflow, problem: str) -> None:
    assert problems(made) == [problem]
