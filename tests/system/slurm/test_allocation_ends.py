"""The allocation ends under a streaming run: the run says why, names every id, and no process of it stays on a node.

With linuxproc Slurm ends only the processes that it can follow from parent to child: what is still there afterwards
did not die with its parent.
"""

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from launching import start_run, submit_command, wait_for_end, wait_for_results
from requirements import need
from sink import recorded_ids
from slurm.lab import SlurmLab
from slurm.site import write_site
from traces import processes_of

from beamcast.core.ids import parse_ranges

pytestmark = [pytest.mark.system, pytest.mark.slurm, pytest.mark.timeout(300)]
Mode = Literal["mpi", "workers"]
MODES = ["workers", pytest.param("mpi", marks=pytest.mark.slow)]
SETTINGS = ("pools.stats.ranks=4", "source.simulate.rate=100 Hz")
ENDLESS = "source.simulate.frames=1000000"
RESULTS = "beamcast:first-light:result"
# A rank is dead after five seconds of silence, and ten seconds after its last heartbeat the reason is known.
TOLD_WITHIN_S = 10.0


def stream(
    lab: SlurmLab, folder: Path, *settings: str, mode: Mode = "workers", allocation: tuple[str, ...] = ()
) -> str:
    """Submit a run and wait until results come; returns its job."""
    if mode == "mpi":
        need("mpi")
    site = write_site(lab, folder, mode=mode)
    words = submit_command(folder, site, f"ends-{mode}", [*SETTINGS, *settings])
    words += [f"--set-site=allocation.{setting}" for setting in allocation]
    with start_run(words, folder, lab.environment) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    wait_for_results(folder)
    (job,) = lab.jobs()
    return job


def told_at(folder: Path, cause: str) -> float:
    """When the controller said why the run fails (wall clock)."""
    lines = map(json.loads, (folder / "run" / "logs" / "controller.log").read_text().splitlines())
    (line,) = [line for line in lines if line["event"].startswith("the run fails") and cause in line["event"]]
    return datetime.fromisoformat(line["timestamp"]).timestamp()


def assert_exact(report: dict[str, Any]) -> None:
    """Every frame of the source is in exactly one final state, and those that are lost are named one by one."""
    frames = report["frames"]
    ended = frames["collected"] + frames["dropped"] + frames["failed"] + frames["lost"]
    assert ended == frames["source"] > 0
    assert len(lost_ids(report)) == frames["lost"]


def lost_ids(report: dict[str, Any]) -> set[int]:
    """The ids that the report names as missing, each of them once."""
    named: set[int] = set()
    for missing in report["missing"]:
        ids = parse_ranges(missing["ids"])
        assert len(ids) == missing["count"]
        assert named.isdisjoint(ids)
        named.update(ids)
    return named


def assert_nothing_left(lab: SlurmLab, folder: Path) -> None:
    """No job, no process on a node or here, no request or state file."""
    lab.wait_no_jobs()
    assert {node: lab.leftovers(node) for node in lab.nodes} == {node: [] for node in lab.nodes}
    assert processes_of(folder) == []
    assert not [name for name in ("state.json", "stop.json") if (folder / "run" / name).exists()]


@pytest.mark.parametrize("mode", MODES)
def test_scancel_ends_a_run_that_may_not_ask_again(empty_slurm: SlurmLab, tmp_path: Path, mode: Mode) -> None:
    job = stream(empty_slurm, tmp_path, ENDLESS, mode=mode)
    cancelled_at = time.time()
    empty_slurm.command("scancel", job)
    report = wait_for_end(tmp_path)
    assert told_at(tmp_path, f"job {job} was cancelled") - cancelled_at < TOLD_WITHIN_S
    assert time.time() - cancelled_at < TOLD_WITHIN_S + 10, "told, and then ended in order"
    assert report["state"] == "failed"
    assert f"job {job} was cancelled" in report["reason"]
    assert [(each["job"], each["state"], each["reason"]) for each in report["allocations"]] == [
        (job, "ended", "was cancelled")
    ]
    assert_exact(report)
    assert_nothing_left(empty_slurm, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_lost_allocation_is_replaced_and_no_frame_is_lost(
    empty_slurm: SlurmLab, tmp_path: Path, mode: Mode
) -> None:
    frames = ("source.simulate.frames=2500", "delivery=at-least-once", "deadlines.drain=90 s")
    job = stream(empty_slurm, tmp_path, *frames, mode=mode, allocation=("replacements=1",))
    empty_slurm.command("scancel", job)
    report = wait_for_end(tmp_path)
    assert report["state"] == "done", report["reason"]
    assert (report["frames"]["collected"], report["frames"]["lost"]) == (2500, 0)
    first, second = report["allocations"]
    assert (first["job"], first["reason"]) == (job, "was cancelled")
    assert second["job"] != job
    ranks = [rank for pool in report["pools"] for rank in pool["ranks"]]
    assert all(
        rank["deaths"] == [f"its allocation is gone: job {job} was cancelled"] for rank in ranks
    ) or all(rank["generation"] == 1 for rank in ranks)
    assert_nothing_left(empty_slurm, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("slurm_lab", ["cgroup"], indirect=True)
def test_a_node_that_is_cut_off_ends_the_run_with_its_name(empty_slurm: SlurmLab, tmp_path: Path) -> None:
    stream(empty_slurm, tmp_path, ENDLESS)
    try:
        empty_slurm.node_down("node2")
        report = wait_for_end(tmp_path)
    finally:
        empty_slurm.node_up("node2")
    assert report["state"] == "failed"
    assert "node2" in report["reason"] or "lost a node" in report["reason"], report["reason"]
    assert_exact(report)
    empty_slurm.wait_empty("node2")
    assert_nothing_left(empty_slurm, tmp_path)


@pytest.mark.slow
def test_a_run_drains_before_its_walltime_ends(empty_slurm: SlurmLab, tmp_path: Path) -> None:
    job = stream(
        empty_slurm, tmp_path, ENDLESS, "delivery=at-least-once", allocation=("walltime=2 min", "margin=90 s")
    )
    report = wait_for_end(tmp_path)
    assert report["state"] == "done"
    assert f"the walltime of job {job} is about to end" in report["reason"]
    assert report["frames"]["lost"] == 0
    assert_exact(report)
    assert_nothing_left(empty_slurm, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("delivery", ["at-least-once", "at-most-once"])
def test_a_run_is_handed_over_to_the_next_allocation(
    empty_slurm: SlurmLab, tmp_path: Path, delivery: str
) -> None:
    """Two minutes of walltime, and three of stream: ranks move to another node."""
    alone = (
        "nodes=1",
        "ranks_per_node=8",
        "walltime=2 min",
        "margin=20 s",
        "handover=true",
        "handover_lead=1 min",
    )
    frames = ("source.simulate.frames=8000", f"delivery={delivery}", "deadlines.drain=90 s")
    with recorded_ids(tmp_path, RESULTS) as ids:
        job = stream(empty_slurm, tmp_path, *frames, allocation=alone)
        report = wait_for_end(tmp_path, timeout_s=200)
        seen = ids()
    assert report["state"] == "done", report["reason"]
    assert report["frames"]["source"] == 8000
    first, *others = report["allocations"]
    assert (first["job"], first["reason"]) == (job, "was handed over")
    assert others
    hosts = {rank["host"] for pool in report["pools"] for rank in pool["ranks"]}
    assert any(hosts <= set(each["nodes"]) for each in others), (
        "all of them have moved, perhaps more than once"
    )
    assert_exact(report)
    assert len(seen) == len(set(seen))
    assert set(seen) == set(range(1, 8001)) - lost_ids(report), (
        "what is not at the beamline is named, and no more"
    )
    # At-most-once, what a rank has been sent and has not passed on when it moves goes with its process.
    assert delivery == "at-most-once" or not lost_ids(report)
    assert_nothing_left(empty_slurm, tmp_path)
