"""Workflows of several pools in real runs: split and stitch, gather, chains, branches that join, any structure.

Every result is compared with what the payload of its frame has to give, by a pool at the end of the flow that writes
down what it saw.
"""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from launching import site_here
from requirements import REPOSITORY

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
EXAMPLES = REPOSITORY / "examples"

FIRST_PORT = 31000

CHECK = '''
import json
from pathlib import Path

import numpy as np

from beamcast.sim.payload import PayloadMaker


class Check:
    """Notes the ids, in the order in which they come, and those whose image is that of the simulator."""

    def __init__(self, *, file: str, shape: list[int], dtype: str, seed: int, inverted: bool = False):
        self.file, self.inverted, self.good, self.ids = file, inverted, [], []
        self.maker = PayloadMaker(tuple(shape), dtype, seed=seed)

    def process(self, frame):
        image = np.bitwise_not(frame.image) if self.inverted else frame.image
        self.ids.append(frame.id)
        if self.maker.verify(np.ascontiguousarray(image), frame.id):
            self.good.append(frame.id)
        return frame.pv

    def stop(self):
        Path(self.file).write_text(json.dumps({"ids": self.ids, "good": self.good}))
'''


def run(
    folder: Path,
    workflow: Path,
    *settings: str,
    status: int = 0,
    site_settings: Sequence[str] = (),
    source_port: int | None = None,
) -> dict[str, Any]:
    """Run a workflow as a user does; its report. `status`: how the command has to end."""
    (folder / "site.toml").write_text(site_here(FIRST_PORT))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    if source_port is not None:
        environment |= {
            "EPICS_PVA_NAME_SERVERS": f"127.0.0.1:{source_port}",
            "EPICS_PVA_AUTO_ADDR_LIST": "NO",
        }
    words = [sys.executable, "-m", "beamcast", "run", str(workflow), "--site", str(folder / "site.toml")]
    words += ["--no-check"]  # the processors write down what they see
    words += ["--run-dir", str(folder / "run"), "--name", f"flows-{os.getpid()}", "--quiet"]
    words += [word for setting in settings for word in ("--set", setting)]
    words += [word for setting in site_settings for word in ("--set-site", setting)]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=environment,
    )
    assert done.returncode == status, f"{done.returncode}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    report: dict[str, Any] = json.loads((folder / "run" / "report.json").read_text())
    return report


def ranks(report: dict[str, Any], name: str) -> list[int]:
    """How many frames each rank of a pool has processed."""
    [pool] = [pool for pool in report["pools"] if pool["name"] == name]
    return [rank["processed"] for rank in pool["ranks"]]


def with_check(folder: Path, workflow: Path, *, source: str, inverted: bool) -> Path:
    """A copy of an example with a pool behind it that compares each image of `source` with the simulator's."""
    (folder / "check.py").write_text(CHECK)
    for path in workflow.parent.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    made = folder / "checked.toml"
    pool = f"""
[[pools]]
name = "check"
role = "consumer"
input = "{source}"
processor = "check.py:Check"
[pools.params]
file = "{folder}/seen.json"
shape = [2160, 3840]
dtype = "uint8"
seed = 4
inverted = {str(inverted).lower()}
"""
    made.write_text(workflow.read_text().replace("[results]", pool + "\n[results]"))
    return made


@pytest.mark.parametrize(
    ("name", "delivery"),
    [
        ("workflow", "at-least-once"),
        pytest.param("workflow", "at-most-once", marks=pytest.mark.slow),
        pytest.param("own-tile", "at-most-once", marks=pytest.mark.slow),
    ],
)
def test_a_4k_stream_is_split_processed_and_stitched_bit_by_bit(
    tmp_path: Path, name: str, delivery: str
) -> None:
    workflow = with_check(
        tmp_path, EXAMPLES / "split-stitch" / f"{name}.toml", source="stitch", inverted=True
    )
    report = run(
        tmp_path,
        workflow,
        "source.simulate.frames=40",
        "source.simulate.rate=8",
        f'delivery="{delivery}"',
        f'prefix="flows:{os.getpid()}"',
    )
    assert report["frames"]["source"] == report["frames"]["collected"] == 40
    assert report["frames"]["lost"] == report["frames"]["failed"] == 0
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["ids"] == seen["good"] == list(range(1, 41))
    assert ranks(report, "work") == [40, 40, 40, 40]


GENERIC = """
name = "generic"
prefix = "{prefix}"
delivery = "{delivery}"
[source]
channel = "{prefix}:source"
id_field = "{id_field}"
idle_timeout = "2 s"
[deadlines]
drain = "10 s"
{pools}
"""


def pool(name: str, source: str, *more: str, role: str = "consumer") -> str:
    return "\n".join([f'[[pools]]\nname = "{name}"\nrole = "{role}"\ninput = "{source}"', *more])


COMPARE = """
import json
from pathlib import Path

import flow_source


class Compare:
    \"""Notes the ids that came and those whose structure is what the source sends under them; says when to end.\"""

    def __init__(self, *, file: str, kind: str, enough: int = 40):
        self.file, self.kind, self.enough, self.good, self.ids, self.bad = Path(file), kind, enough, [], [], []

    def process(self, frame):
        self.ids.append(frame.id)
        got, want = frame.pv.get(), flow_source.content(self.kind, frame.id)
        if flow_source.same(got, want):
            self.good.append(frame.id)
        else:
            self.bad.append(f"{got} and not {want}")
        if len(self.ids) >= self.enough:
            (self.file.parent / "enough").touch()
        return frame.pv

    def stop(self):
        self.file.write_text(json.dumps({"ids": self.ids, "good": self.good, "bad": self.bad[:3]}))
"""


def run_generic(
    folder: Path,
    kind: str,
    *pools: str,
    id_field: str,
    delivery: str = "at-most-once",
    status: int = 0,
) -> dict[str, Any]:
    """The report of a run whose source is `flow_source.py`, which sends until a processor has seen enough."""
    (folder / "compare.py").write_text(COMPARE)
    (folder / "flow_source.py").write_text((Path(__file__).parent / "flow_source.py").read_text())
    prefix = f"flows:{kind}:{os.getpid()}"
    source = subprocess.Popen(
        [sys.executable, str(folder / "flow_source.py"), kind, f"{prefix}:source", str(folder / "enough")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
    )
    try:
        assert source.stdout is not None
        port = int(source.stdout.readline())
        text = GENERIC.format(prefix=prefix, delivery=delivery, id_field=id_field, pools="\n".join(pools))
        (folder / "generic.toml").write_text(text)
        return run(folder, folder / "generic.toml", status=status, source_port=port)
    finally:
        source.kill()
        source.communicate()


@pytest.mark.parametrize("delivery", ["at-most-once", pytest.param("at-least-once", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("kind", "id_field"),
    [
        ("nested", "header.number"),
        pytest.param("negative", "value", marks=pytest.mark.slow),
        pytest.param("table", "uniqueId", marks=pytest.mark.slow),
    ],
)
def test_any_structure_streams_through_a_chain(
    tmp_path: Path, kind: str, id_field: str, delivery: str
) -> None:
    report = run_generic(
        tmp_path,
        kind,
        pool("first", "source", "ranks = 2"),
        pool("second", "first", "ranks = 2"),
        pool("gather", "second", role="collector"),
        pool(
            "compare",
            "gather",
            'processor = "compare.py:Compare"',
            f'params = {{ file = "{tmp_path}/seen.json", kind = "{kind}" }}',
        ),
        id_field=id_field,
        delivery=delivery,
    )
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["bad"] == []
    assert seen["ids"] == seen["good"]
    assert seen["ids"] == list(range(seen["ids"][0], seen["ids"][0] + len(seen["ids"])))
    assert len(seen["ids"]) >= 40
    # What came before the run was ready flows through and does not count.
    assert 20 < report["frames"]["source"] == report["frames"]["collected"] <= len(seen["ids"])
    assert report["frames"]["lost"] == 0
    for name in ("first", "second"):
        shares = ranks(report, name)
        assert sum(shares) == report["frames"]["source"], name
        assert min(shares) > 5, f"{name}: {shares}"


SIMULATED = """
name = "flows"
prefix = "{prefix}"
[source]
channel = "{prefix}:image"
[source.simulate]
frames = {frames}
rate = "40 Hz"
shape = [32, 48]
dtype = "uint16"
{pools}
"""

NOTE = """
import json
from pathlib import Path

import numpy as np


class Note:
    \"""Writes down which frames came to this rank.\"""

    def __init__(self, *, folder: str):
        self.folder, self.ids = Path(folder), []

    def start(self, context):
        self.file = self.folder / f"{context.pool}-{context.place.rank}.json"

    def process(self, frame):
        self.ids.append(frame.id)
        return frame.pv

    def stop(self):
        self.file.write_text(json.dumps(self.ids))


class Total:
    output = {"total": int}

    def process(self, frame):
        return {"total": int(frame.image.sum())}


class Both:
    output = {"same": bool, "parts": int}

    def process(self, frame):
        filtered, total = frame.parts
        return {"same": int(filtered.image.sum()) == total.pv["total"], "parts": len(frame.parts)}


class Keep(Note):
    def process(self, frame):
        self.ids.append([frame.id, frame.pv["same"], frame.pv["parts"]])


class DropsTens:
    def process(self, frame):
        return None if frame.id % 10 == 0 else frame.pv
"""


def run_simulated(
    folder: Path, *pools: str, frames: int = 60, status: int = 0, nodes: int = 1
) -> dict[str, Any]:
    """The report of a run of the simulator's frames 1, 2, …"""
    (folder / "note.py").write_text(NOTE)
    prefix = f"flows:{os.getpid()}"
    (folder / "flows.toml").write_text(SIMULATED.format(prefix=prefix, frames=frames, pools="\n".join(pools)))
    return run(folder, folder / "flows.toml", status=status, site_settings=(f"allocation.nodes={nodes}",))


def note(folder: Path, name: str, source: str, *more: str, kind: str = "Note") -> str:
    """A pool that writes down what came to its ranks."""
    params = f'params = {{ folder = "{folder}" }}'
    return pool(name, source, f'processor = "note.py:{kind}"', params, *more)


def noted(folder: Path, name: str, ranks: int) -> list[list[int]]:
    """The ids that came to each rank, in order."""
    return [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(ranks)]


def check_turns(shares: list[list[int]], *, sets: int, updates: int, frames: int) -> None:
    """Ranks of one set have the same frames; sets take turns of `updates` consecutive frames."""
    size = len(shares) // sets
    turns = [shares[index * size : (index + 1) * size] for index in range(sets)]
    for members in turns:
        assert all(ids == members[0] for ids in members), members
    owner = {frame: index for index, members in enumerate(turns) for frame in members[0]}
    assert sorted(owner) == list(range(1, frames + 1))
    assert sum(len(members[0]) for members in turns) == frames, "a frame went to two sets"
    order = [owner[frame] for frame in range(1, frames + 1)]
    starts = [0] + [at for at in range(1, frames) if order[at] != order[at - 1]]
    if sets > 1:
        runs = [after - before for before, after in itertools.pairwise(starts)]
        assert set(runs[1:]) == {updates}, order
        assert [order[at] for at in starts] == [(order[0] + turn) % sets for turn in range(len(starts))]


def test_frames_are_distributed_as_the_policies_say(tmp_path: Path) -> None:
    """Several groups on one server at the same time, with sets of one rank and of several."""
    report = run_simulated(
        tmp_path,
        note(tmp_path, "turns", "source", "ranks = 3", "distribution = { updates = 2 }"),
        note(tmp_path, "pairs", "source", "ranks = 4", 'distribution = { policy = "sets", sets = 2 }'),
        note(tmp_path, "nodes", "source", "ranks = 4", 'distribution = { policy = "per-node", updates = 3 }'),
        note(tmp_path, "every", "source", "ranks = 2", 'distribution = { policy = "all" }'),
        nodes=2,
    )
    assert report["frames"]["lost"] == 0, report["missing"]
    check_turns(noted(tmp_path, "turns", 3), sets=3, updates=2, frames=60)
    check_turns(noted(tmp_path, "pairs", 4), sets=2, updates=1, frames=60)
    check_turns(noted(tmp_path, "nodes", 4), sets=2, updates=3, frames=60)
    check_turns(noted(tmp_path, "every", 2), sets=1, updates=1, frames=60)


@pytest.mark.slow
def test_two_branches_join_and_a_part_that_one_of_them_drops_ends_its_frame(tmp_path: Path) -> None:
    report = run_simulated(
        tmp_path,
        pool("through", "source", "ranks = 2"),
        pool("filter", "through", 'processor = "note.py:DropsTens"', "ranks = 2"),
        pool("total", "through", 'processor = "note.py:Total"'),
        pool("both", "filter", 'join = ["total"]', 'processor = "note.py:Both"', role="collector"),
        note(tmp_path, "keep", "both", kind="Keep"),
    )
    frames = report["frames"]  # all of them are dropped, the last by the pool that only takes notes
    assert (frames["source"], frames["dropped"], frames["lost"], frames["failed"]) == (60, 60, 0, 0), report
    seen: list[list[Any]] = json.loads((tmp_path / "keep-0.json").read_text())
    assert [int(each[0]) for each in seen] == [frame for frame in range(1, 61) if frame % 10]
    assert all(each[1:] == [True, 2] for each in seen), "image of the one, total of the other"
    assert ranks(report, "both") == [54]


LOSE = """
import os


class Dies:
    \"""The tile of rank 2 is lost with frame 20.\"""

    def start(self, context):
        self.rank = context.place.rank

    def process(self, frame):
        if self.rank == 2 and frame.id == 20:
            os.abort()
        return frame.pv
"""


@pytest.mark.slow
def test_a_lost_part_costs_its_frame_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "lose.py").write_text(LOSE)
    report = run_simulated(
        tmp_path,
        pool(
            "work", "source", "ranks = 3", 'processor = "lose.py:Dies"', 'distribution = { policy = "all" }'
        ),
        pool("gather", "work", "gather = 3", 'reorder_timeout = "1 s"', role="collector"),
        frames=120,
        status=3,
    )
    [gathered] = ranks(report, "gather")
    assert 19 <= gathered < 120
    assert report["frames"]["lost"] == 120 - gathered
    assert {(entry["pool"], entry["rank"]) for entry in report["missing"]} == {("work", 2)}
    assert any(entry["ids"].startswith("20") for entry in report["missing"])
