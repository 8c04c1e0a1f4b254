"""A run on a real Slurm is ended at a real terminal: while its job waits, while it starts, while it streams."""

import json
import os
from pathlib import Path

import pytest
from slurm.lab import SlurmLab
from slurm.site import write_site

from endings.terminal import Terminal
from endings.trial import WAYS, Outcome, command, end_it, environment
from endings.workflow import write_workflow

pytestmark = [pytest.mark.system, pytest.mark.slurm, pytest.mark.timeout(300)]
BY_NAME = {way.name: way for way in WAYS}
STAGE_S = 90.0


def state(folder: Path) -> str:
    try:
        return str(json.loads((folder / "run" / "state.json").read_text())["state"])
    except (FileNotFoundError, json.JSONDecodeError):
        return ""


@pytest.mark.parametrize(
    ("stage", "way", "told"),
    [
        ("queued", "Ctrl-C", {"cancelled"}),
        ("starting", "Ctrl-C twice", {"cancelled"}),
        ("streaming", "Ctrl-C", {"done"}),
        ("streaming", "Ctrl-C three times", {"cancelled", "done"}),
        ("streaming", "window closed", {"done"}),
    ],
)
@pytest.mark.parametrize("slurm_lab", ["cgroup"], indirect=True)
def test_a_run_on_slurm_ends_when_it_is_told_to(
    empty_slurm: SlurmLab, tmp_path: Path, stage: str, way: str, told: set[str]
) -> None:
    lab, outcome = empty_slurm, Outcome(0, "slurm", stage, way)
    write_workflow(tmp_path, prefix=f"endings{os.getpid()}")
    site = write_site(lab, tmp_path, mode="workers")
    words = command("run", "workflow.toml", "--site", str(site), "--run-dir", "run", "--name", "ending")
    if stage == "queued":
        # Another job has all nodes: ours waits.
        lab.command(
            "sbatch", "-N", str(len(lab.nodes)), "--exclusive", "-o", "/dev/null", "--wrap", "sleep 120"
        )
    with Terminal(
        words, folder=tmp_path, environment={**environment(tmp_path), **lab.environment}
    ) as terminal:
        assert terminal.wait_for(lambda: state(tmp_path) == stage, seconds=STAGE_S), terminal.shown[-2000:]
        end_it(terminal, BY_NAME[way], outcome, folder=tmp_path, run_dir=tmp_path / "run", within_s=30)
    assert outcome.problems == []
    assert outcome.report in told
    if stage == "queued":
        (other,) = lab.jobs()
        lab.command("scancel", other)
    lab.wait_no_jobs()
