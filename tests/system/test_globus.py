"""A run whose ranks an endpoint starts: sealed on the way, lost: 0, and nothing left over there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from globus_compute_sdk.serialize import (
    AllCodeStrategies,
    ComputeSerializer,
    DillCodeSource,
    DillCodeTextInspect,
)
from launching import read_report
from requirements import REPOSITORY

from beamcast.members.host.parcel import start_ranks
from beamcast.security.site_key import SiteKey

pytestmark = pytest.mark.system

FRAMES = 200
WORKFLOW = """
name = "far"

[source]
channel = "{prefix}:image"

[source.simulate]
frames = {frames}
rate = "100 Hz"
shape = [32, 32]

[[pools]]
name = "work"
role = "consumer"
input = "source"
ranks = 2
processor = "mine.py:Mine"

[[pools]]
name = "collect"
role = "collector"
input = "work"

[results]
pool = "collect"
channel = "{prefix}:result"
"""
PROCESSOR = """
class Mine:
    def process(self, frame):
        return frame.image
"""
SITE = """
extends = "local"
name = "far"
executor = "globus-compute"

[globus]
endpoint = "9a947ba5-f537-4681-acf3-cc66485aadec"
public_key = "{public}"
key_file = "{far}/site.key"
run_root = "{far}/runs"

[globus.options]
queue = "debug"
"""


def run_far(folder: Path, *, public: str) -> subprocess.CompletedProcess[str]:
    """Run the workflow; `folder`/far is what the endpoint sees, `folder`/near what the beamline does."""
    near, far = folder / "near", folder / "far"
    (near / "tasks").mkdir(parents=True)
    (near / "workflow.toml").write_text(WORKFLOW.format(prefix=f"far{os.getpid()}", frames=FRAMES))
    (near / "mine.py").write_text(PROCESSOR)
    (near / "site.toml").write_text(SITE.format(public=public, far=far))
    standin = str(Path(__file__).parent / "globus_standin.py")
    words = [
        sys.executable,
        standin,
        "run",
        "workflow.toml",
        "--site",
        "./site.toml",
        "--run-dir",
        "run",
        "--quiet",
    ]
    return subprocess.run(
        words,
        cwd=near,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "STANDIN_FOLDER": str(near / "tasks")},
    )


def test_a_whole_run_far_away(tmp_path: Path) -> None:
    key = SiteKey.create()
    key.write(tmp_path / "far" / "site.key")
    said = run_far(tmp_path, public=key.public)
    assert said.returncode == 0, said.stderr
    report = read_report(tmp_path / "near")
    assert (report["frames"]["collected"], report["frames"]["lost"]) == (FRAMES, 0)
    secret = (tmp_path / "near" / "run" / "secret").read_text().strip()
    travelled = [path.read_text() for path in (tmp_path / "near" / "tasks").iterdir()]
    assert len(travelled) == 2
    assert not any(secret in text or "class Mine" in text for text in travelled)
    assert list((tmp_path / "far" / "runs").iterdir()) == [], "nothing stays over there"
    told = (tmp_path / "near" / "run" / "logs" / "remote-start.log").read_text()
    assert "node 0 of 1 keeps 3 ranks" in told


def test_a_parcel_for_another_key_is_said_so(tmp_path: Path) -> None:
    SiteKey.create().write(tmp_path / "far" / "site.key")
    said = run_far(tmp_path, public=SiteKey.create().public)
    assert said.returncode == 1
    assert (
        "the endpoint's worker ended with status 1" in said.stderr
        or "not sealed to this site's key" in said.stderr
    )


@pytest.mark.parametrize("strategy", [DillCodeSource, DillCodeTextInspect, AllCodeStrategies])
def test_the_function_travels_by_each_of_the_sdks_strategies(strategy: type) -> None:
    serializer = ComputeSerializer(strategy_code=strategy())
    there = serializer.check_strategies(start_ranks, "sealed", "key", "root")
    assert there[1:] in ([("sealed", "key", "root"), {}], [["sealed", "key", "root"], {}])
