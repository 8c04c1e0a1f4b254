"""A workflow runs through PBS's commands: the job's script has to set up everything by itself."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from launching import (
    read_report,
    run_command,
    start_run,
    submit_command,
    wait_for_end,
    wait_for_results,
)
from pbs.lab import PbsLab
from pbs.state import Behaviour
from requirements import REPOSITORY, need

from beamcast.core.ids import parse_ranges

pytestmark = [pytest.mark.system, pytest.mark.mpi, pytest.mark.timeout(300)]

FRAMES = 500
SETTINGS = (f"source.simulate.frames={FRAMES}", "source.simulate.rate=250 Hz")

# Parsl starts the managers of a PBS allocation with mpiexec, so both modes need one. One machine stands for all nodes
# and can't tell them apart, hence one node for workers; MPI wants one for each pool.
_SITE = """\
name = "pretended"
run_root = "runs"

[provider]
kind = "pbs"
queue = "debug"

[start]
mode = "{mode}"

[allocation]
nodes = {nodes}
ranks_per_node = 4
walltime = "5 min"
worker_init = "export PATH='{bin}':$PATH PYTHONPATH='{src}'"

[network.ports]
first = 31000
last = 31999
"""


def write_site(folder: Path, mode: Literal["mpi", "workers"]) -> Path:
    path = folder / "pretended.toml"
    text = _SITE.format(
        mode=mode,
        nodes=1 if mode == "workers" else 2,
        bin=Path(sys.executable).parent,
        src=REPOSITORY / "src",
    )
    path.write_text(text)
    return path


@pytest.mark.parametrize("mode", [pytest.param("workers", marks=pytest.mark.slow), "mpi"])
def test_no_frame_is_lost(pbs_lab: PbsLab, tmp_path: Path, mode: Literal["mpi", "workers"]) -> None:
    need("mpi")
    words = run_command(tmp_path, write_site(tmp_path, mode), f"pbs-{mode}", SETTINGS)
    with start_run(words, tmp_path, pbs_lab.environment) as process:
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    report = read_report(tmp_path)
    assert (report["frames"]["collected"], report["frames"]["lost"]) == (FRAMES, 0)
    (job,) = pbs_lab.queue.jobs()
    assert pbs_lab.wait_for(job.id, "F").deleted, "the run gives its allocation back"


def test_a_site_whose_wrapper_hides_the_id_and_whose_json_is_broken(pbs_lab: PbsLab, tmp_path: Path) -> None:
    """The job is found by its name (C4), and looked at in another way (C5); in the end it is given back."""
    need("mpi")
    wrapped = Behaviour(
        qsub_says="Welcome!\n  2.5 hours are left in your budget.", qsub_status=1, broken_json=True
    )
    pbs_lab.behave(wrapped)
    words = run_command(tmp_path, write_site(tmp_path, "workers"), "wrapped", SETTINGS)
    with start_run(words, tmp_path, pbs_lab.environment) as process:
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    report = read_report(tmp_path)
    assert (report["frames"]["collected"], report["frames"]["lost"]) == (FRAMES, 0)
    (job,) = pbs_lab.queue.jobs()
    assert report["allocations"][0]["job"] == job.id
    assert report["allocations"][0]["state"] != "unknown"
    assert pbs_lab.wait_for(job.id, "F").deleted, "the run gives its allocation back"


def test_the_message_of_a_rejected_job_reaches_the_user(pbs_lab: PbsLab, tmp_path: Path) -> None:
    message = "Job violates queue and/or server resource limits"
    pbs_lab.behave(Behaviour(reject=message))
    words = run_command(tmp_path, write_site(tmp_path, "workers"), "rejected", SETTINGS)
    with start_run(words, tmp_path, pbs_lab.environment) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert message in said


def test_qdel_under_a_streaming_run_is_told_and_every_id_is_named(pbs_lab: PbsLab, tmp_path: Path) -> None:
    need("mpi")
    endless = ("source.simulate.frames=1000000", "source.simulate.rate=100 Hz")
    words = submit_command(tmp_path, write_site(tmp_path, "workers"), "deleted", endless)
    with start_run(words, tmp_path, pbs_lab.environment) as process:
        said, _ = process.communicate(timeout=90)
    assert process.returncode == 0, said
    (job,) = pbs_lab.queue.jobs()
    assert f"job {job.id}" in said
    wait_for_results(tmp_path)
    subprocess.run(["qdel", job.id], check=True, timeout=20)
    report = wait_for_end(tmp_path)
    assert report["state"] == "failed"
    assert f"job {job.id} was cancelled" in report["reason"]
    frames = report["frames"]
    assert frames["collected"] + frames["lost"] == frames["source"] > 0
    named = [key for missing in report["missing"] for key in parse_ranges(missing["ids"])]
    assert len(set(named)) == len(named) == frames["lost"]
    assert all(each.state == "F" for each in pbs_lab.queue.jobs())
