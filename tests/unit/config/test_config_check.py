from pathlib import Path

import msgspec
import pytest

from beamcast.config.check import check_workflow
from beamcast.config.load import LoadedWorkflow
from beamcast.config.units import dec_hook
from beamcast.config.workflow import Workflow
from beamcast.core.errors import ConfigError


def pool(name: str, came_from: str = "source", role: str = "consumer", **more: object) -> dict[str, object]:
    return {"name": name, "role": role, "input": came_from, **more}


def workflow(*pools: dict[str, object], source: dict[str, object] | None = None, **more: object) -> Workflow:
    source = {"channel": "det:image", **(source or {})}
    tree = {"name": "demo", "source": source, "pools": list(pools or [pool("a")]), **more}
    return msgspec.convert(tree, Workflow, dec_hook=dec_hook)


def problems(made: Workflow, base: Path = Path()) -> list[str]:
    try:
        check_workflow(LoadedWorkflow(made, Path("workflow.toml"), base))
    except ConfigError as error:
        return str(error).splitlines()
    return []


GOOD = [
    workflow(),
    workflow(pool("a"), pool("b", "a"), pool("c", "b", "collector"), results={"pool": "c"}),
    workflow(pool("a", ranks=4, distribution={"policy": "sets", "sets": 4})),
    workflow(pool("c", "a", "collector"), pool("a")),
    workflow(source={"simulate": {"shape": [32768, 65536], "dtype": "uint8"}}),
]


@pytest.mark.parametrize("made", GOOD)
def test_good_workflows(made: Workflow) -> None:
    assert problems(made) == []


BAD = [
    (
        workflow(pool("a"), pool("a")),
        "pools[1].name: the name 'a' is taken by pools[0]. Give each pool its own name",
    ),
    (
        workflow(pool("source")),
        "pools[0].name: a pool can't be named 'source': that is the detector's channel",
    ),
    (
        workflow(pool("stats"), pool("out", "stat")),
        "pools[1].input: no pool is named 'stat'. Did you mean 'stats'? (valid: source, stats)",
    ),
    (workflow(pool("a", "a")), "pools[0].input: a pool can't read its own output"),
    (
        workflow(pool("a", role="collector")),
        "pools[0].input: a collector gathers the output of a pool, not of the source. "
        "Name a consumer pool, or make this one a consumer",
    ),
    (
        workflow(pool("x", "c"), pool("a", "c"), pool("b", "a"), pool("c", "b")),
        "pools[1].input: pools read each other's output in a loop: a -> c -> b -> a. "
        "One of them has to read from 'source'",
    ),
    (
        workflow(pool("stats"), results={"pool": "stat"}),
        "results.pool: no pool is named 'stat'. Did you mean 'stats'?",
    ),
    (
        workflow(pool("a", ranks=2), results={"pool": "a"}),
        "results.pool: results come from one rank, and pool 'a' has 2. "
        "Name a collector of one rank that reads it, or set ranks = 1",
    ),
    (
        workflow(
            pool("a", ranks=3), pool("c", "a", "collector", ranks=3), results={"pool": "c", "by": "push"}
        ),
        "results.pool: results come from one rank, and pool 'c' has 3",
    ),
    (
        workflow(pool("a", ranks=2), pool("c", "a", "collector", ranks=3)),
        "pools[1].ranks: 3 ranks share the outputs of 2, so some would gather nothing. Set 2 or fewer",
    ),
    (
        workflow(source={"simulate": {"first_id": 2**31}}),
        "source.simulate.first_id: the ids of an NTNDArray end at 2147483647. Give a smaller one",
    ),
    (
        workflow(pool("a", distribution={"policy": "sets"})),
        "pools[0].distribution.sets: policy 'sets' needs the number of sets. Write sets = 2, for instance",
    ),
    (
        workflow(pool("a", distribution={"policy": "each", "sets": 2})),
        "pools[0].distribution.sets: policy 'each' takes no number of sets. Leave it out, or use",
    ),
    (
        workflow(pool("a", ranks=2, distribution={"policy": "sets", "sets": 3})),
        "pools[0].distribution.sets: 3 sets need at least 3 ranks, and the pool has 2",
    ),
    (
        workflow(pool("a", ranks=2, min_ranks=3)),
        "pools[0].min_ranks: the pool has 2 ranks, so 3 never come. Lower it, or raise ranks",
    ),
    (
        workflow(mirror={"channel": "det:image"}),
        "mirror.channel: 'det:image' is already source.channel. Give it a name of its own",
    ),
    (
        workflow(mirror={"channel": "m"}, results={"pool": "a", "channel": "m"}),
        "results.channel: 'm' is already mirror.channel",
    ),
    (
        workflow(deadlines={"heartbeat": "2 s", "silence": "4 s"}),
        "deadlines.silence: 4 s of silence is too little with a heartbeat each 2 s. It has to be more than",
    ),
    (
        workflow(pool("a"), pool("c", "a", "collector", reorder_timeout="1 min")),
        "pools[1].reorder_timeout: waiting 1 min for an id outlasts the drain of 30 s",
    ),
    (
        workflow(pool("a", processor="find_peaks")),
        "pools[0].processor: 'find_peaks' names no class. Write 'file.py:Class' or 'package.module:Class'",
    ),
    (workflow(pool("a", processor="a.b:c:d")), "pools[0].processor: 'a.b:c:d' names no class"),
    (workflow(pool("a", processor="a-b:C")), "pools[0].processor: 'a-b:C' names no class"),
    (workflow(pool("a", processor="a..b:C")), "pools[0].processor: 'a..b:C' names no class"),
    (
        workflow(pool("a", processor="my peaks.py:Peaks")),
        "pools[0].processor: no file 'my peaks.py'. Paths start at the workflow file's folder",
    ),
    (
        workflow(source={"simulate": {"dtype": "uint61"}}),
        "source.simulate.dtype: 'uint61' is not a type of pixel. Did you mean 'uint64'?",
    ),
    (
        workflow(source={"simulate": {"shape": [32768, 65537]}}),
        "source.simulate.shape: an image of 32768 x 65537 uint8 is larger than 2 GiB",
    ),
    (
        workflow(source={"protocol": "ca", "simulate": {}}),
        "source.protocol: the simulator serves pvAccess, not Channel Access",
    ),
    (
        workflow(source={"simulate": {"dataset": "/data"}}),
        "source.simulate.dataset: a dataset without the HDF5 file it is in. Set source.simulate.file too",
    ),
]


@pytest.mark.parametrize(("made", "message"), BAD)
def test_bad_workflows(made: Workflow, message: str, tmp_path: Path) -> None:
    found = problems(made, tmp_path)
    assert len(found) == 1, found
    assert found[0].startswith(f"workflow.toml: {message}")


def test_all_problems_are_reported_together() -> None:
    made = workflow(pool("a", "b"), pool("a", processor="x"), deadlines={"heartbeat": "9 s"})
    assert len(problems(made)) == 4


def test_each_loop_is_reported_once() -> None:
    made = workflow(pool("a", "b"), pool("b", "a"), pool("c", "d"), pool("d", "c"))
    assert [line.split(": ")[1] for line in problems(made)] == ["pools[0].input", "pools[2].input"]


def test_files_are_looked_for_beside_the_workflow(tmp_path: Path) -> None:
    made = workflow(
        pool("a", processor="my peaks.py:Peaks"),
        source={"simulate": {"file": "frames.h5", "dataset": "/entry/data"}},
    )
    assert len(problems(made, tmp_path)) == 2
    (tmp_path / "my peaks.py").touch()
    (tmp_path / "frames.h5").touch()
    assert problems(made, tmp_path) == []


@pytest.mark.parametrize(
    ("simulate", "message"),
    [
        ({"file": "f.tiff"}, "file: 'f.tiff' can't be played. Endings known: .npy, .h5,"),
        ({"file": "f.H5"}, "dataset: an HDF5 file needs the path of the dataset in it. Such as"),
        (
            {"file": "f.npy", "dataset": "/x"},
            "dataset: a .npy file holds one array and no datasets. Leave it out",
        ),
    ],
)
def test_files_to_play(simulate: dict[str, object], message: str, tmp_path: Path) -> None:
    (tmp_path / str(simulate["file"])).touch()
    found = problems(workflow(source={"simulate": simulate}), tmp_path)
    assert len(found) == 1
    assert found[0].startswith(f"workflow.toml: source.simulate.{message}")
