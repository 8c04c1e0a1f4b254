"""The batch script of each shipped site, to the letter.

A site file that is changed on purpose changes its script: look at it with
`pytest tests/unit/cli/test_batch_scripts.py --update-golden` and `git diff`.
"""

from pathlib import Path

import pytest

from beamcast.cli.preview import batch_script, preview
from beamcast.config.load import load_site, load_workflow
from beamcast.config.sites import shipped_sites
from beamcast.launch.plan import RunPlan
from beamcast.launch.start.parsl_start import ParslStart

GOLDEN = Path(__file__).parent / "golden"
FIRST_LIGHT = Path(__file__).parents[3] / "examples" / "first-light" / "workflow.toml"
# On these a batch system gets a script from Parsl.
BATCH = ["aurora", "frontier", "improv", "pbs", "perlmutter", "polaris", "slurm"]


def plan_at(site: str, *settings: str) -> RunPlan:
    loaded = load_workflow(FIRST_LIGHT, overrides=["pools.stats.ranks=4"])
    return RunPlan(run="golden", loaded=loaded, site=load_site(site, overrides=settings))


def script_of(plan: RunPlan) -> str:
    config = ParslStart(plan, Path("/shared/runs/golden"), address="10.0.0.1").config()
    script = batch_script(plan, config)
    assert script is not None
    return script


@pytest.mark.parametrize("site", BATCH)
def test_the_script_is_to_the_letter(site: str, update_golden: bool) -> None:
    golden = GOLDEN / f"{site}.sh"
    script = script_of(plan_at(site, "provider.account=MyProject"))
    if update_golden:
        golden.write_text(script)
    assert script == golden.read_text()


def test_every_shipped_site_has_a_golden_script_or_submits_none() -> None:
    assert set(shipped_sites()) - set(BATCH) == {"local", "local-mpi", "polaris-globus"}


def test_a_slurm_site_asks_for_gpus_and_cpus_on_lines_of_their_own() -> None:
    reserved = 'provider.scheduler_options="#SBATCH --reservation=beam"'
    lines = script_of(plan_at("perlmutter", reserved)).splitlines()
    start = lines.index("#SBATCH --no-requeue")
    assert lines[start + 1 : start + 4] == [
        "#SBATCH --gpus-per-node=4",
        "#SBATCH --cpus-per-task=128",
        "#SBATCH --reservation=beam",
    ]
    assert "srun --ntasks 2 -l --cpus-per-task=128 --cpu-bind=none bash" in "\n".join(lines)


def test_set_changes_the_script_and_the_launcher() -> None:
    script = script_of(
        plan_at("improv", "provider.queue=compute", 'start.overrides="--ppn 1"', "node.cpus=64")
    )
    assert "#PBS -l select=2:ncpus=64\n" in script
    assert "mpiexec --bind-to none --ppn 1 -n $WORKERCOUNT --hostfile $HOSTFILE" in script


def test_plan_prints_one_row_for_each_place() -> None:
    rows = preview(plan_at("polaris"), Path("/shared/runs/golden"))["ranks"]
    assert [(row["node"], row["local_rank"], row["gpu"], row["cpus"]) for row in rows] == [
        ("node0", 0, "0", "24-31,56-63"),
        ("node0", 1, "1", "16-23,48-55"),
        ("node0", 2, "2", "8-15,40-47"),
        ("node0", 3, "3", "0-7,32-39"),
        ("node1", 0, "", ""),
    ]
