"""The allocation ends under a streaming run: the run says so by itself, and no process of it stays on a node.

With linuxproc Slurm ends only the processes that it can follow from parent to child: what is still there afterwards
did not die with its parent.
"""

import subprocess
import time
from pathlib import Path
from typing import Literal

import pytest
from launching import read_report, run_command, start_run
from requirements import need
from slurm.lab import SlurmLab
from slurm.site import write_site

pytestmark = [pytest.mark.system, pytest.mark.slurm, pytest.mark.timeout(300)]


def wait_until_streaming(process: "subprocess.Popen[str]", folder: Path, *, timeout_s: float = 120) -> None:
    log = folder / "run" / "logs" / "controller.log"
    deadline = time.monotonic() + timeout_s
    while not (log.exists() and "is streaming" in log.read_text()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@pytest.mark.parametrize("mode", ["workers", pytest.param("mpi", marks=pytest.mark.slow)])
def test_scancel(empty_slurm: SlurmLab, tmp_path: Path, mode: Literal["mpi", "workers"]) -> None:
    if mode == "mpi":
        need("mpi")
    settings = ["pools.stats.ranks=4", "source.simulate.frames=1000000", "source.simulate.rate=100 Hz"]
    words = run_command(tmp_path, write_site(empty_slurm, tmp_path, mode=mode), f"cancelled-{mode}", settings)
    with start_run(words, tmp_path, empty_slurm.environment) as process:
        try:
            wait_until_streaming(process, tmp_path)
            (job,) = empty_slurm.jobs()
            empty_slurm.command("scancel", job)
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1, said
    report = read_report(tmp_path)
    assert report["state"] == "failed"
    assert "died" in report["reason"]
    assert empty_slurm.jobs() == []
    assert {node: empty_slurm.leftovers(node) for node in empty_slurm.nodes} == {
        "node1": [],
        "node2": [],
        "node3": [],
    }
