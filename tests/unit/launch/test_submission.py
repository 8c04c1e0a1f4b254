"""The job of a submission is known whatever wrappers print (C4)."""

import pytest

from beamcast.launch.jobs.submission import pbs_job, slurm_job


@pytest.mark.parametrize(
    "text",
    [
        "Submitted batch job 101\n",
        "Submitted batch job 101 on cluster blue\n",
        "101\n",
        "  101  \n",
        "101;blue\n",
        "sbatch: 3 nodes for 20 minutes\n101\nGood luck\n",
        "*** Maintenance on 2026-12-24 ***\nSubmitted batch job 101\nBudget: 4711 hours\n",
        "INFO Submitted batch job 101.\n",
    ],
)
def test_slurm(text: str) -> None:
    assert slurm_job(text) == "101"


@pytest.mark.parametrize(
    "text",
    [
        "101.head\n",
        "101.head.site.example\n",
        "101\n".replace("101", "101.head"),
        "Welcome, 3 days are left\n101.head\nGood luck\n",
        "101.head\n\n*** Maintenance on 24.12. ***\n",
        "Your job 101.head has been queued\n",
    ],
)
def test_pbs(text: str) -> None:
    job = pbs_job(text)
    assert job is not None
    assert job.partition(".")[:2] == ("101", ".")


def test_pbs_ids_without_a_server_and_of_arrays() -> None:
    assert pbs_job("101\n") == "101"
    assert pbs_job("101[].head\n") == "101[].head"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "accepted\n",
        "job 101 queued, 2 before it",
        "101\n102\n",
        "Submitted batch job 1\nSubmitted batch job 2",
    ],
)
def test_where_there_is_a_doubt_nothing_is_guessed(text: str) -> None:
    assert slurm_job(text) is None
    assert pbs_job(text) is None
