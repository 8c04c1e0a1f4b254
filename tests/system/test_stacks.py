"""Frames that travel in stacks, in a real run: batches reach the processor as views, every frame is accounted for."""

import json
from pathlib import Path

import pytest
from test_flows import run

pytestmark = [pytest.mark.system, pytest.mark.timeout(200)]
FRAMES = 600

PROCESSOR = '''
import json
from pathlib import Path

import numpy as np

from beamcast.pools.frame import stack
from beamcast.sim.payload import PayloadMaker


class Look:
    """Checks each image against the simulator's, and notes how the batches lay in memory."""

    batch = 8
    output = {"total": float, "gain": float}

    def __init__(self, *, file: str):
        self.file = Path(file)
        self.sizes, self.copies, self.bad = [], 0, []
        self.maker = PayloadMaker((32, 48), "uint16", seed=3)

    def process_batch(self, frames):
        images = stack(frames)
        self.sizes.append(len(frames))
        self.copies += bool(images.flags.owndata)
        self.bad += [f.id for f, i in zip(frames, images) if not self.maker.verify(np.ascontiguousarray(i), f.id)]
        return [
            {"total": float(i.sum()), "gain": float(f.metadata["gain"])} for f, i in zip(frames, images)
        ]

    def stop(self):
        seen = {"sizes": self.sizes, "copies": self.copies, "bad": self.bad}
        self.file.with_suffix(f".{id(self)}").write_text(json.dumps(seen))


class Note:
    """Writes down every result."""

    def __init__(self, *, file: str):
        self.file, self.seen = Path(file), []

    def process(self, frame):
        self.seen.append([frame.id, frame.pv["gain"]])
        return frame.pv

    def stop(self):
        self.file.write_text(json.dumps(self.seen))
'''

WORKFLOW = """
name = "stacks"
prefix = "{prefix}"
delivery = "at-least-once"

[source]
channel = "{prefix}:image"
[source.simulate]
frames = {frames}
rate = "400 Hz"
shape = [32, 48]
dtype = "uint16"
seed = 3

[[metadata]]
name = "gain"
channel = "{prefix}:gain"
tolerance = "1 ms"
simulate = true

[[pools]]
name = "look"
role = "consumer"
input = "source"
ranks = 2
batch = 8
batch_wait = "30 ms"
processor = "stacks.py:Look"
[pools.params]
file = "{folder}/look.json"

[[pools]]
name = "collect"
role = "collector"
input = "look"
processor = "stacks.py:Note"
[pools.params]
file = "{folder}/collected.json"

[results]
pool = "collect"
"""


@pytest.mark.slow
def test_stacks_reach_the_processor_as_views_with_their_metadata(tmp_path: Path) -> None:
    (tmp_path / "stacks.py").write_text(PROCESSOR)
    workflow = tmp_path / "workflow.toml"
    workflow.write_text(WORKFLOW.format(prefix=f"stacks:{tmp_path.name}", folder=tmp_path, frames=FRAMES))
    report = run(tmp_path, workflow)
    looks = [json.loads(path.read_text()) for path in tmp_path.glob("look.*") if path.suffix != ".json"]
    assert len(looks) == 2
    for look in looks:
        assert look["bad"] == []
        assert look["copies"] == 0
    sizes = [size for look in looks for size in look["sizes"]]
    assert sum(sizes) == FRAMES
    assert max(sizes) == 8
    assert sum(size == 8 for size in sizes) > len(sizes) / 2, f"most stacks are full at this rate: {sizes}"
    collected = json.loads((tmp_path / "collected.json").read_text())
    assert [number for number, _ in collected] == list(range(1, FRAMES + 1))
    assert all(gain == 100.0 * number for number, gain in collected)
    frames = report["frames"]
    assert (frames["source"], frames["collected"], frames["lost"], frames["failed"]) == (FRAMES, FRAMES, 0, 0)
    [pool] = [pool for pool in report["pools"] if pool["name"] == "look"]
    assert sum(rank["processed"] for rank in pool["ranks"]) == FRAMES
