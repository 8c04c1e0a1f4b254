"""Scripts that start ranks without Parsl: to the letter for each kind of scheduler, and safe with odd paths."""

import subprocess
from pathlib import Path

import pytest

from beamcast.config.load import load_site, load_workflow
from beamcast.core.errors import UsageError
from beamcast.launch.plan import RunPlan
from beamcast.launch.start.start_script import script_name, start_script, submit_line

GOLDEN = Path(__file__).parent / "golden"
FIRST_LIGHT = Path(__file__).parents[3] / "examples" / "first-light" / "workflow.toml"


def plan_at(site: str, *settings: str, ranks: int = 4) -> RunPlan:
    loaded = load_workflow(FIRST_LIGHT, overrides=[f"pools.stats.ranks={ranks}"])
    chosen = load_site(site, overrides=["executor=external", *settings])
    return RunPlan(run="golden", loaded=loaded, site=chosen)


@pytest.mark.parametrize(
    ("site", "settings"),
    [
        ("local", ()),
        ("local-mpi", ()),
        ("polaris", ("provider.account=P",)),
        ("improv", ("provider.account=P",)),
        ("perlmutter", ("provider.account=m1_g",)),
        (
            "slurm",
            ("start.mode=mpi", "start.launcher=srun", 'start.options=["--mpi=pmi2"]', "allocation.nodes=5"),
        ),
    ],
)
def test_the_script_is_to_the_letter(site: str, settings: tuple[str, ...], update_golden: bool) -> None:
    plan = plan_at(site, *settings)
    golden = GOLDEN / f"{site}-{script_name(plan.site)}"
    script = start_script(plan, Path("/shared/run"), python="/env/bin/python")
    if update_golden:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(script)
    assert script == golden.read_text()
    checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_odd_paths_reach_the_shell_as_they_are() -> None:
    run_dir = Path('/a b/$HOME/`x`/{y}/"z"/\\w')
    script = start_script(plan_at("local"), run_dir, python="/p y/python")
    told = script.split("exec")[0] + 'printf "%s|%s" "$BEAMCAST_RUN_DIR" "$BEAMCAST_PYTHON"'
    said = subprocess.run(["bash", "-c", told], capture_output=True, text=True, check=True).stdout
    assert said == f"{run_dir}|/p y/python"


def test_mpi_pools_need_nodes_of_their_own() -> None:
    with pytest.raises(UsageError, match="the pools need 3, an allocation has 2"):
        start_script(plan_at("polaris", ranks=8), Path("/r"), python="p")


def test_what_the_user_types() -> None:
    assert submit_line(plan_at("polaris").site, Path("/a b/start.pbs")) == "qsub '/a b/start.pbs'"
    assert submit_line(plan_at("slurm").site, Path("/r/start.sbatch")) == "sbatch /r/start.sbatch"
