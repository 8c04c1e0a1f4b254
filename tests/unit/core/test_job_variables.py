"""What an interactive job has set is not passed on (C16)."""

import pytest

from beamcast.core.job_variables import job_variables, without_job


@pytest.mark.parametrize(
    "name",
    [
        "SLURM_JOB_ID",
        "SLURM_NODELIST",
        "PMI_FD",
        "PMIX_RANK",
        "PALS_RANKID",
        "PBS_NODEFILE",
    ],
)
def test_variables_of_a_job_go(name: str) -> None:
    assert job_variables({name: "1", "PATH": "/bin"}) == [name]
    assert without_job({name: "1", "PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "name",
    [
        "SLURM_CONF",
        "SBATCH_ACCOUNT",
        "PBS_SERVER",
        "PBS_CONF_FILE",
        "MPIR_CVAR_CH4_NETMOD",
        "OMPI_MCA_btl",
        "HOME",
    ],
)
def test_what_users_set_stays(name: str) -> None:
    assert job_variables({name: "1"}) == []


def test_slurms_variables_are_settings_outside_of_a_job() -> None:
    assert job_variables({"SLURM_MPI_TYPE": "pmix"}) == []
    inside = {"SLURM_MPI_TYPE": "none", "SLURM_MEM_PER_CPU": "1", "SLURM_JOB_ID": "1", "SLURM_CONF": "/etc/s"}
    assert job_variables(inside) == ["SLURM_JOB_ID", "SLURM_MEM_PER_CPU", "SLURM_MPI_TYPE"]
