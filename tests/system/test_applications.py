"""The applications under `examples/`, run as they stand with a pool behind them that checks what comes out."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from requirements import REPOSITORY
from test_processors import ranks, run

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
EXAMPLES = REPOSITORY / "examples"


def run_example(folder: Path, example: str, check: str) -> tuple[dict[str, Any], Any]:
    """The report of an example and what `Check`, behind its collector, has noted."""
    shutil.copytree(EXAMPLES / example, folder, dirs_exist_ok=True)
    (folder / "check.py").write_text(check)
    text = (folder / "workflow.toml").read_text().replace('"beamcast:', f'"bcx{os.getpid()}:')
    noted = folder / "noted.json"
    text += (
        '\n[[pools]]\nname = "check"\nrole = "consumer"\ninput = "collect"\nprocessor = "check.py:Check"\n'
    )
    text += f"params = {{ file = {json.dumps(str(noted))} }}\n"
    report = run(folder, text)
    assert report["error"] is None
    assert report["frames"]["lost"] == report["frames"]["failed"] == 0, report["missing"]
    return report, json.loads(noted.read_text())


BRAGG = '''
import json
from pathlib import Path

import numpy as np
from far_field import spots_of


class Check:
    """How far the peaks of each frame are from its spots, in pixels; and how many there are."""

    def __init__(self, *, file: str):
        self.file, self.worst, self.counts = file, [], []

    def process(self, frame):
        spots, row, column = spots_of(frame.id, (256, 256), 25), frame.pv["row"], frame.pv["column"]
        apart = np.hypot(spots[:, 0, None] - row, spots[:, 1, None] - column)
        self.worst.append(float(apart.min(axis=1).max()))
        self.counts.append(frame.pv["count"])

    def stop(self):
        Path(self.file).write_text(json.dumps([self.worst, self.counts]))
'''


def test_bragg_peaks_are_found_and_fitted(tmp_path: Path) -> None:
    report, (worst, counts) = run_example(tmp_path, "bragg-peaks", BRAGG)
    assert counts == [25] * 300
    assert max(worst) < 0.3
    assert ranks(report, "peaks")["processed"] == ranks(report, "collect")["processed"] == 300


PTYCHO = '''
import json
from pathlib import Path

import numpy as np
from beamcast.sim.metadata import simulated_value
from beamcast.sim.payload import PayloadMaker
from gradient import infer


class Check:
    """Which patterns have their own position and their own gradient; the sizes of the batches."""

    def __init__(self, *, file: str):
        self.file, self.good, self.sizes = file, [], set()
        self.maker = PayloadMaker((128, 128), "int16", seed=0)

    def process(self, frame):
        pv = frame.pv
        gradients, intensities = infer(self.maker.borrow(frame.id)[np.newaxis])
        mine = pv["x"] == simulated_value(frame.id, 0) and pv["y"] == simulated_value(frame.id, 1)
        if mine and pv["intensity"] == intensities[0] and np.array_equal(pv["gradient"], gradients[0]):
            self.good.append(frame.id)
        self.sizes.add(pv["batch"])

    def stop(self):
        Path(self.file).write_text(json.dumps([self.good, sorted(self.sizes)]))
'''


@pytest.mark.slow
def test_ptychography_gives_each_pattern_its_position(tmp_path: Path) -> None:
    _, (good, sizes) = run_example(tmp_path, "ptychography", PTYCHO)
    assert good == list(range(1, 481)), "in the order of the scan"
    assert max(sizes) <= 8


@pytest.mark.slow
def test_twenty_servers_join_into_one_orbit(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "orbit" / "demo.py"), "--quiet"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    frames = json.loads((tmp_path / "runs" / "orbit" / "report.json").read_text())["frames"]
    assert frames["collected"] == frames["source"] > 20
    assert frames["lost"] == frames["failed"] == 0
