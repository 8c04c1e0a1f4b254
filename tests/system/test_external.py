"""Ranks that somebody else starts: the script that the run wrote is run by hand, or by Slurm, and no frame is lost."""

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from launching import read_report, run_command, start_run
from requirements import REPOSITORY, need
from slurm.lab import SlurmLab
from slurm.site import write_site

pytestmark = [pytest.mark.system, pytest.mark.timeout(200)]

FRAMES = 300
SETTINGS = (f"source.simulate.frames={FRAMES}", "source.simulate.rate=150 Hz", "pools.stats.ranks=4")


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"no {path.name}"
        time.sleep(0.05)


def run_and_start(folder: Path, site: Path, words: list[str], environment: Mapping[str, str]) -> str:
    """Run the workflow, and what starts its ranks; returns what the second said."""
    with start_run(run_command(folder, site, "external", SETTINGS), folder, environment) as process:
        try:
            wait_for(folder / "run" / Path(words[-1]).name, process)
            said = subprocess.run(
                words,
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=100,
                check=False,
                env={**os.environ, **environment, "PYTHONPATH": str(REPOSITORY / "src")},
            )
            assert said.returncode == 0, said.stderr
            told, _ = process.communicate(timeout=100)
            assert process.returncode == 0, told
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    return said.stdout


def check_report(folder: Path) -> list[dict[str, object]]:
    report = read_report(folder)
    assert (report["state"], report["frames"]["collected"], report["frames"]["lost"]) == ("done", FRAMES, 0)
    assert [pool["turns"] for pool in report["pools"]] == ["as planned", ""]
    ranks: list[dict[str, object]] = next(
        pool["ranks"] for pool in report["pools"] if pool["name"] == "stats"
    )
    assert [(rank["slot"], rank["processed"]) for rank in ranks] == [(rank, FRAMES // 4) for rank in range(4)]
    return ranks


@pytest.mark.parametrize("site", ["local", pytest.param("local-mpi", marks=pytest.mark.mpi)])
def test_a_pool_that_is_started_by_hand(tmp_path: Path, site: str) -> None:
    if site == "local-mpi":
        need("mpi")
    mine = tmp_path / "external.toml"
    mine.write_text(f'extends = "{site}"\nname = "external"\nexecutor = "external"\n')
    run_and_start(tmp_path, mine, ["bash", str(tmp_path / "run" / "start.sh")], {})
    check_report(tmp_path)
    modes = {
        name: (tmp_path / "run" / name).stat().st_mode & 0o777 for name in ("secret", "join.json", "start.sh")
    }
    assert modes == {"secret": 0o600, "join.json": 0o600, "start.sh": 0o700}


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.parametrize("slurm_lab", ["cgroup"], indirect=True)
def test_a_pool_that_slurm_starts(empty_slurm: SlurmLab, tmp_path: Path) -> None:
    site = write_site(empty_slurm, tmp_path, mode="workers")
    site.write_text('executor = "external"\n' + site.read_text())
    script = tmp_path / "run" / "start.sbatch"
    run_and_start(tmp_path, site, ["sbatch", "--wait", str(script)], empty_slurm.environment)
    hosts = [rank["host"] for rank in check_report(tmp_path)]
    assert hosts[0] == hosts[1] != hosts[2] == hosts[3]
