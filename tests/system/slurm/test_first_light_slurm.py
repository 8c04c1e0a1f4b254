"""A workflow runs detached through a real Slurm: consumers on two nodes, the collector on a third."""

from pathlib import Path
from typing import Any, Literal

import pytest
from launching import start_run, submit_command, wait_for_end
from requirements import need
from slurm.lab import SlurmLab
from slurm.site import write_site

pytestmark = [pytest.mark.system, pytest.mark.slurm, pytest.mark.timeout(300)]

FRAMES = 1000


def run_first_light(lab: SlurmLab, folder: Path, mode: Literal["mpi", "workers"]) -> dict[str, Any]:
    """The report of the first-light example with two ranks on each of two nodes."""
    settings = ["pools.stats.ranks=4", f"source.simulate.frames={FRAMES}", "source.simulate.rate=250 Hz"]
    words = submit_command(folder, write_site(lab, folder, mode=mode), f"lab-{mode}", settings)
    with start_run(words, folder, lab.environment) as process:
        said, _ = process.communicate(timeout=100)
    assert process.returncode == 0, said
    assert "job " in said, "it says which job it is"
    return wait_for_end(folder)


@pytest.mark.parametrize("mode", ["workers", "mpi"])
def test_ranks_sit_where_they_were_planned_and_no_frame_is_lost(
    empty_slurm: SlurmLab, tmp_path: Path, mode: Literal["mpi", "workers"]
) -> None:
    if mode == "mpi":
        need("mpi")
    report = run_first_light(empty_slurm, tmp_path, mode)
    assert report["state"] == "done", report["reason"]
    assert (report["frames"]["collected"], report["frames"]["lost"]) == (FRAMES, 0)
    pools = {pool["name"]: pool["ranks"] for pool in report["pools"]}
    hosts = [rank["host"] for rank in pools["stats"]]
    collector = pools["collect"][0]["host"]
    assert hosts[0] == hosts[1]
    assert hosts[2] == hosts[3]
    assert {hosts[0], hosts[2], collector} == set(empty_slurm.nodes)
    (allocation,) = report["allocations"]
    assert sorted(allocation["nodes"]) == sorted(empty_slurm.nodes)
    empty_slurm.wait_no_jobs()
    assert [rank["slot"] for rank in pools["stats"]] == [0, 1, 2, 3]
    assert [rank["rank"] for rank in pools["stats"]] == [0, 1, 2, 3]
    assert [rank["processed"] for rank in pools["stats"]] == [FRAMES // 4] * 4
