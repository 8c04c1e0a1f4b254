"""The Slurm lab is what the tests that use it take for granted."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from networks.namespace import NETNS
from requirements import need
from slurm.lab import SlurmLab

pytestmark = [pytest.mark.system, pytest.mark.slurm, pytest.mark.slow]


def wait_for(condition: Callable[[], bool], what: str, *, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.05)


def submit(lab: SlurmLab, script: str, *options: str) -> str:
    """Submit a script; returns the job's id once it runs."""
    job = lab.command(
        "sbatch", "--parsable", "--no-requeue", "-o", "/dev/null", *options, f"--wrap={script}"
    ).strip()
    wait_for(lambda: lab.job_state(job) == "RUNNING", f"job {job} runs")
    return job


def test_each_node_is_a_host_with_its_own_name_and_address(empty_slurm: SlurmLab) -> None:
    script = "echo $(hostname) $SLURM_NODEID $(ip -4 -o addr show eth0 | awk '{print $4}')"
    lines = empty_slurm.command("srun", "-N3", "sh", "-c", script).splitlines()
    expected = [f"node{n} {n - 1} {empty_slurm.shape.address(f'node{n}')}/24" for n in (1, 2, 3)]
    assert sorted(lines) == expected


def test_a_job_sees_the_files_and_the_environment_of_its_submitter(
    empty_slurm: SlurmLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONLY_HERE", "yes")
    script = f"echo $ONLY_HERE > {tmp_path}/seen"
    empty_slurm.command("sbatch", "--wait", "-o", "/dev/null", f"--wrap={script}", timeout_s=60)
    assert (tmp_path / "seen").read_text() == "yes\n"


@pytest.mark.parametrize("slurm_lab", ["cgroup"], indirect=True)
def test_by_cgroup_scancel_finds_processes_that_hide(slurm_lab: SlurmLab) -> None:
    job = submit(slurm_lab, "(setsid sleep 600 &) ; sleep 600")
    wait_for(lambda: len(sleepers(slurm_lab)) == 2, "two sleepers")
    slurm_lab.command("scancel", job)
    wait_for(lambda: not slurm_lab.leftovers("node1"), "no process of the job")


@pytest.mark.parametrize("slurm_lab", ["linuxproc"], indirect=True)
def test_by_linuxproc_scancel_leaves_orphans_which_the_lab_shows(slurm_lab: SlurmLab) -> None:
    job = submit(slurm_lab, "(setsid sleep 600 &) ; sleep 600")
    wait_for(lambda: len(sleepers(slurm_lab)) == 2, "two sleepers")
    slurm_lab.command("scancel", job)
    wait_for(lambda: not slurm_lab.jobs(), "no job")
    wait_for(lambda: len(slurm_lab.leftovers("node1")) == 1, "the orphan alone")
    slurm_lab.end_processes("node1", "sleep 600")
    assert slurm_lab.leftovers("node1") == []


def sleepers(lab: SlurmLab) -> list[str]:
    return [line for line in lab.leftovers("node1") if line.endswith("sleep 600")]


@pytest.mark.parametrize("slurm_lab", ["cgroup"], indirect=True)
def test_a_node_whose_link_is_gone_fails_its_job(slurm_lab: SlurmLab) -> None:
    job = submit(slurm_lab, "sleep 600", "-N2")
    slurm_lab.node_down("node2")
    wait_for(lambda: slurm_lab.job_state(job) == "NODE_FAIL", "NODE_FAIL", timeout_s=60)
    slurm_lab.node_up("node2")
    idle = ["sinfo", "-h", "-N", "-t", "idle", "-o", "%N"]
    wait_for(lambda: "node2" in slurm_lab.command(*idle), "node2 is back", timeout_s=60)
    wait_for(lambda: not slurm_lab.leftovers("node2"), "the job's processes are gone", timeout_s=30)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    need("slurm")
    before = everything()
    with SlurmLab(tmp_path / "lab", nodes=1, tracking="linuxproc") as lab:
        submit(lab, "(setsid sleep 611 &) ; sleep 611")
        assert everything() != before
    wait_for(lambda: everything() == before, "as before")


def everything() -> tuple[set[str], str, set[str]]:
    """Namespaces, interfaces and addresses, and the scheduler's processes of this machine."""
    interfaces = subprocess.run(["ip", "-o", "-4", "addr"], capture_output=True, text=True, check=True).stdout
    found = subprocess.run(
        ["pgrep", "-af", "^(slurm|munged|sleep 611)"], capture_output=True, text=True, check=False
    )
    return {path.name for path in NETNS.glob("*")}, interfaces, set(found.stdout.splitlines())
