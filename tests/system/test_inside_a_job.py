"""`beamcast run` typed in an interactive job (C16): the job's variables are not the run's."""

from pathlib import Path

import pytest
from requirements import need
from test_run import Case, case

__all__ = ["case"]
pytestmark = [pytest.mark.system, pytest.mark.mpi]

SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOBID": "4711",
    "SLURM_NODELIST": "node7",
    "SLURM_JOB_NODELIST": "node7",
    "SLURM_NNODES": "1",
    "SLURM_NTASKS": "1",
    "SLURM_TASKS_PER_NODE": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}
LAUNCHER = {
    "PMI_RANK": "0",
    "PMI_SIZE": "1",
    "PMI_FD": "77",
    "PMIX_RANK": "0",
    "PMIX_NAMESPACE": "job.4711",
    "PMIX_SERVER_URI2": "job.4711;tcp4://127.0.0.1:1",
    "PALS_RANKID": "0",
    "PBS_NODEFILE": "/nowhere/nodes",
}


def test_mpi_ranks_start_within_another_job(case: Case) -> None:
    need("mpi")
    case.write(frames=50)
    running = case.start(site="local-mpi", environment={**SLURM, **LAUNCHER})
    assert running.wait() == 0, running.output[-3000:]
    assert case.report()["frames"]["collected"] == 50


def test_doctor_does_not_look_at_the_other_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("mpi")
    from beamcast.config.load import load_site
    from beamcast.launch.checks.batch import mpi
    from beamcast.launch.checks.registry import Ground

    for name, value in {**SLURM, **LAUNCHER}.items():
        monkeypatch.setenv(name, value)
    (found,) = mpi(Ground(site=load_site("local-mpi"), run_root=tmp_path))
    assert found.verdict == "ok", found
