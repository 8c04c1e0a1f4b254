"""Where ranks sit: what MPI says of it, the GPU and CPUs that they get, and the report that says so."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from launching import read_report, run_command, start_run
from requirements import REPOSITORY, need

pytestmark = [pytest.mark.system, pytest.mark.mpi]

# One or two CPUs that this process may use: more, and the test would not run on small machines.
CPUS = [str(cpu) for cpu in sorted(os.sched_getaffinity(0))[:2]]
PROBE = Path(__file__).parent / "place_probe.py"


def mpiexec() -> str:
    need("mpi")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    launcher = shutil.which("mpiexec", path=path)
    assert launcher is not None
    return launcher


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
def test_each_rank_learns_its_place_and_gets_its_share(ranks: int) -> None:
    words = [mpiexec(), "-n", str(ranks), sys.executable, str(PROBE), str(ranks), *CPUS]
    said = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
    )
    rows = sorted((json.loads(line) for line in said.stdout.splitlines()), key=lambda row: int(row["rank"]))
    sets = len(CPUS)
    expected = [rank if ranks <= sets else rank * sets // ranks for rank in range(ranks)]
    assert [row["rank"] for row in rows] == list(range(ranks))
    assert [row["local"] for row in rows] == [[rank, ranks] for rank in range(ranks)]
    assert {(row["size"], *row["node"]) for row in rows} == {(ranks, 0, 1)}
    assert [(row["gpu"], row["cpus"]) for row in rows] == [("ABCD"[gpu], CPUS[gpu]) for gpu in expected]


@pytest.mark.skipif(len(CPUS) < 2, reason="two CPUs are needed to tell them apart")
@pytest.mark.parametrize("site", ["local-mpi", pytest.param("local", marks=pytest.mark.slow)])
def test_a_set_for_each_gpu_and_the_report_says_who_had_which(tmp_path: Path, site: str) -> None:
    """Four ranks on two GPUs: each GPU's ranks see the same frames, the other GPU's ranks the others."""
    need("mpi")
    mine = tmp_path / "two-gpus.toml"
    sets = ", ".join(f'"{cpu}"' for cpu in CPUS)
    mine.write_text(
        f'extends = "{site}"\nname = "two-gpus"\n'
        f'[node]\ngpus = ["A", "B"]\ngpu_variable = "PRETENDED_GPU"\ncpu_sets = [{sets}]\n'
    )
    settings = ["pools.stats.ranks=4", "pools.stats.distribution.policy=per-gpu"]
    settings += ["source.simulate.frames=200", "source.simulate.rate=100 Hz"]
    with start_run(run_command(tmp_path, mine, f"gpus-{site}", settings), tmp_path, {}) as process:
        said, _ = process.communicate(timeout=100)
    assert process.returncode == 0, said
    report = read_report(tmp_path)
    ranks = next(pool["ranks"] for pool in report["pools"] if pool["name"] == "stats")
    had = [(rank["gpu"], rank["cpus"]) for rank in ranks]
    assert had == [("A", CPUS[0]), ("A", CPUS[0]), ("B", CPUS[1]), ("B", CPUS[1])]
    assert [rank["slot"] for rank in ranks] == [0, 0, 1, 1]
    assert [pool["turns"] for pool in report["pools"]] == ["as planned", ""]
    assert [rank["processed"] for rank in ranks] == [100] * 4
    assert {rank["misplaced"] for pool in report["pools"] for rank in pool["ranks"]} == {""}
    assert report["frames"]["lost"] == 0
