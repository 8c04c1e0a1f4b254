"""Processors written to PvaPy's documentation that share the work on a frame or remember frames, unchanged in a run:
split by `processorId`, stitch by frame id, a moving average."""

import json
from pathlib import Path

import pytest
from test_processors import CHECK, FRAMES, pool, ranks, run, workflow

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

THEIRS = '''
from collections import deque

import numpy as np
import pvaccess as pva
from pvapy.hpc.adImageProcessor import AdImageProcessor


class Split(AdImageProcessor):
    """Each of four consumers gets every frame and passes on its own tile, with its place as attributes."""

    def __init__(self, configDict={}):
        AdImageProcessor.__init__(self, configDict)
        self.nTiles = 0

    def process(self, pvObject):
        (frameId, image, nx, ny, nz, colorMode, fieldKey) = self.reshapeNtNdArray(pvObject)
        row, column = divmod(self.processorId, 2)
        height, width = ny // 2, nx // 2
        tile = image[row * height:(row + 1) * height, column * width:(column + 1) * width]
        output = self.generateNtNdArray2D(frameId, np.ascontiguousarray(tile))
        output["attribute"] = [pva.NtAttribute("tile", pva.PvInt(self.processorId))]
        self.updateOutputChannel(output)
        self.nTiles += 1
        return pvObject

    def getStats(self):
        return {"nTiles": self.nTiles}

    def getStatsPvaTypes(self):
        return {"nTiles": pva.UINT}


class Stitch(AdImageProcessor):
    """Keeps tiles by frame id and publishes the image when all four are there."""

    def __init__(self, configDict={}):
        AdImageProcessor.__init__(self, configDict)
        self.tiles = {}

    def process(self, pvObject):
        (frameId, image, nx, ny, nz, colorMode, fieldKey) = self.reshapeNtNdArray(pvObject)
        (number,) = [a["value"][0]["value"] for a in pvObject["attribute"] if a["name"] == "tile"]
        tiles = self.tiles.setdefault(frameId, {})
        tiles[number] = image
        if len(tiles) == 4:
            del self.tiles[frameId]
            whole = np.block([[tiles[0], tiles[1]], [tiles[2], tiles[3]]])
            self.updateOutputChannel(self.generateNtNdArray2D(frameId, whole))
        return pvObject


class MovingAverage(AdImageProcessor):
    """The mean of the last images, as an image of another type."""

    def __init__(self, configDict={}):
        AdImageProcessor.__init__(self, configDict)
        self.images = deque(maxlen=configDict["nImages"])

    def process(self, pvObject):
        (frameId, image, nx, ny, nz, colorMode, fieldKey) = self.reshapeNtNdArray(pvObject)
        self.images.append(image)
        mean = np.mean(list(self.images), axis=0, dtype=np.float64).astype(np.float32)
        self.updateOutputChannel(self.generateNtNdArray2D(frameId, mean))
        return pvObject
'''

MEANS = '''
import json
from pathlib import Path

import numpy as np
from beamcast.sim.payload import PayloadMaker


class Means:
    """Which averages are those of the frame and its two predecessors."""

    def __init__(self, *, file: str):
        self.file, self.good = file, []
        self.maker = PayloadMaker((32, 48), "uint16", seed=0)

    def process(self, frame):
        last = [self.maker.borrow(number).copy() for number in range(max(1, frame.id - 2), frame.id + 1)]
        mean = np.mean(last, axis=0, dtype=np.float64).astype(np.float32)
        if np.array_equal(frame.image, mean):
            self.good.append(frame.id)

    def stop(self):
        Path(self.file).write_text(json.dumps(self.good))
'''


def test_pvapys_split_stitch_and_moving_average_run_unchanged(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(THEIRS)
    (tmp_path / "check.py").write_text(CHECK)
    (tmp_path / "means.py").write_text(MEANS)
    whole, means = tmp_path / "whole.json", tmp_path / "means.json"
    report = run(
        tmp_path,
        workflow(
            "theirs",
            pool("split", "theirs.py:Split", "ranks = 4", 'distribution = { policy = "all" }'),
            pool("stitch", "theirs.py:Stitch", source="split"),
            pool(
                "whole", "check.py:Check", f"params = {{ file = {json.dumps(str(whole))} }}", source="stitch"
            ),
            pool("average", "theirs.py:MovingAverage", "params = { nImages = 3 }"),
            pool(
                "means", "means.py:Means", f"params = {{ file = {json.dumps(str(means))} }}", source="average"
            ),
            pool("image", "pvapy.hpc.adImageProcessor:AdImageProcessor"),
        ),
        "split",
    )
    assert report["error"] is None
    everybody = list(range(1, FRAMES + 1))
    seen = json.loads(whole.read_text())
    assert seen["ids"] == seen["good"] == everybody
    assert json.loads(means.read_text()) == everybody
    assert report["frames"]["lost"] == report["frames"]["failed"] == 0, report["missing"]
    assert ranks(report, "split")["processed"] == 4 * FRAMES
    assert ranks(report, "average") == {"processed": FRAMES, "dropped": 0, "failed": 0}
    assert 0 < report["answers"]["split"]["userStats"]["nTiles"] <= FRAMES
