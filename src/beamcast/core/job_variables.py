"""Variables by which a process knows the batch job and the MPI start that it is in. Pure.

Where `beamcast run` is typed in an interactive job, or in a batch script, they belong to that job and not to the run:
an MPI launcher would look for its nodes and Parsl for its list of hosts, and ranks would wait for a launcher that is
not theirs. What users set to adjust MPI or a scheduler's commands is not among them; outside of a job Slurm's variables
are such settings (`SLURM_MPI_TYPE`, `SLURM_HINT`).
"""

from collections.abc import Mapping

_PREFIXES = (
    "SLURMD_",
    "PMI_",
    "PMIX_",
    "PALS_",
    "HYDI_",
    "OMPI_COMM_WORLD_",
    "OMPI_MCA_ess",
    "OMPI_MCA_orte_",
    "OMPI_MCA_pmix",
    "PRTE_",
    "LSB_",
    "COBALT_",
    "PBS_ARRAY_",
    "PBS_O_",
)
_NAMES = frozenset(
    {
        *("PBS_ENVIRONMENT", "PBS_JOBCOOKIE", "PBS_JOBDIR", "PBS_JOBID", "PBS_JOBNAME", "PBS_MOMPORT"),
        *(
            "PBS_NODEFILE",
            "PBS_NODENUM",
            "PBS_QUEUE",
            "PBS_TASKNUM",
            "PBS_VNODENUM",
            "PBS_NP",
            "PBS_NUM_NODES",
        ),
        *("MPI_LOCALRANKID", "MPI_LOCALNRANKS", "OMPI_UNIVERSE_SIZE", "OMPI_APP_CTX_NUM_PROCS"),
        *("OMPI_FIRST_RANKS", "OMPI_FILE_LOCATION", "OMPI_COMMAND", "OMPI_ARGV", "PE_HOSTFILE", "NSLOTS"),
    }
)
_IN_SLURM = frozenset({"SLURM_JOB_ID", "SLURM_JOBID", "SLURM_JOB_NODELIST", "SLURM_NODELIST", "SLURM_PROCID"})
# Which cluster is asked, and how: the same outside of a job.
_SETTINGS = frozenset({"SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT", "SLURM_TIME_FORMAT", "SLURM_CONF_SERVER"})


def job_variables(environment: Mapping[str, str]) -> list[str]:
    """The names of those that are set."""
    prefixes = _PREFIXES if _IN_SLURM.isdisjoint(environment) else (*_PREFIXES, "SLURM_")
    return sorted(
        name
        for name in environment
        if name in _NAMES or (name.startswith(prefixes) and name not in _SETTINGS)
    )


def without_job(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment as it is outside of the job."""
    inside = set(job_variables(environment))
    return {name: value for name, value in environment.items() if name not in inside}
