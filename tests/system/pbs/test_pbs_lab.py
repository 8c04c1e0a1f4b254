"""The pretended PBS does what Parsl and beamcast rely on in the real one."""

import json
import subprocess
from pathlib import Path

import pytest
from pbs.lab import PbsLab
from pbs.runner import session_members
from pbs.state import EXIT_DELETED, EXIT_UNKNOWN_JOB, EXIT_WALLTIME, Behaviour

pytestmark = pytest.mark.system


def call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)


def submit(tmp_path: Path, body: str, *, nodes: int = 1, walltime: str = "00:01:00") -> str:
    script = tmp_path / "job"
    lines = [
        "#!/bin/bash",
        "#PBS -N hello",
        f"#PBS -l walltime={walltime}",
        f"#PBS -l select={nodes}:ncpus=1",
    ]
    lines += [f"#PBS -o {tmp_path}/out", f"#PBS -e {tmp_path}/err", body]
    script.write_text("\n".join([*lines, ""]))
    done = call("qsub", "-q", "debug", "-A", "beam", str(script))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def qstat(*job_ids: str) -> dict[str, dict[str, object]]:
    jobs: dict[str, dict[str, object]] = json.loads(call("qstat", "-x", "-f", "-F", "json", *job_ids).stdout)[
        "Jobs"
    ]
    return jobs


def test_a_job_runs_in_a_login_environment_and_its_status_is_kept(
    pbs_lab: PbsLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONLY_HERE", "1")
    job = submit(tmp_path, 'wc -l < "$PBS_NODEFILE"; echo "[$ONLY_HERE]"; exit 3', nodes=2)
    ended = pbs_lab.wait_for(job, "F")
    assert (tmp_path / "out").read_text().split() == ["2", "[]"]
    assert ended.exit_status == 3
    assert qstat(job)[job]["job_state"] == "F"
    assert qstat(job)[job]["Exit_status"] == 3
    assert (ended.queue, ended.options["A"]) == ("debug", "beam")


def test_a_rejected_job_says_why(pbs_lab: PbsLab, tmp_path: Path) -> None:
    pbs_lab.behave(Behaviour(reject="Job violates queue and/or server resource limits"))
    (tmp_path / "job").write_text("true\n")
    done = call("qsub", str(tmp_path / "job"))
    assert done.returncode != 0
    assert done.stderr.strip() == "qsub: Job violates queue and/or server resource limits"
    assert qstat() == {}


def test_a_job_waits_until_its_time_comes(pbs_lab: PbsLab, tmp_path: Path) -> None:
    pbs_lab.behave(Behaviour(queued_s=None))
    job = submit(tmp_path, "true")
    assert qstat(job)[job]["job_state"] == "Q"
    pbs_lab.behave(Behaviour(queued_s=0))
    assert pbs_lab.wait_for(job, "F").exit_status == 0


def test_qdel_ends_a_running_job_with_all_its_session(pbs_lab: PbsLab, tmp_path: Path) -> None:
    job = submit(tmp_path, "trap '' TERM; sleep 600 & sleep 600")
    session = pbs_lab.wait_for(job, "R").pid
    assert session is not None
    assert call("qdel", job).returncode == 0
    assert pbs_lab.wait_for(job, "F").exit_status == EXIT_DELETED
    assert session_members(session) == []
    assert call("qdel", job).returncode == EXIT_UNKNOWN_JOB


def test_qdel_of_a_waiting_job(pbs_lab: PbsLab, tmp_path: Path) -> None:
    pbs_lab.behave(Behaviour(queued_s=None))
    job = submit(tmp_path, f"touch {tmp_path}/ran")
    assert call("qdel", job).returncode == 0
    assert pbs_lab.wait_for(job, "F").exit_status == EXIT_DELETED
    assert not (tmp_path / "ran").exists()


def test_walltime_ends_a_job(pbs_lab: PbsLab, tmp_path: Path) -> None:
    job = submit(tmp_path, "sleep 600", walltime="00:00:01")
    assert pbs_lab.wait_for(job, "F").exit_status == EXIT_WALLTIME


def test_a_job_that_the_server_forgot_is_unknown_and_runs_on(pbs_lab: PbsLab, tmp_path: Path) -> None:
    job = submit(tmp_path, "sleep 600")
    session = pbs_lab.wait_for(job, "R").pid
    assert session is not None
    pbs_lab.vanish(job)
    done = call("qstat", "-x", "-f", "-F", "json", job)
    assert (done.returncode, json.loads(done.stdout)["Jobs"]) == (EXIT_UNKNOWN_JOB, {})
    assert session in session_members(session)


def test_servers_that_answer_badly(pbs_lab: PbsLab, tmp_path: Path) -> None:
    first, second = submit(tmp_path, "true"), submit(tmp_path, "true")
    assert set(qstat(first, second)) == {first, second}
    pbs_lab.behave(Behaviour(answer_first_only=True))
    assert set(qstat(first, second)) == {first}
    pbs_lab.behave(Behaviour(qstat_fails=True))
    done = call("qstat", "-x", "-f", "-F", "json", first)
    assert done.returncode != 0
    assert "cannot connect" in done.stderr


@pytest.mark.slow
def test_nothing_runs_on_after_the_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with PbsLab(tmp_path / "pbs") as lab:
        for name, value in lab.environment.items():
            monkeypatch.setenv(name, value)
        session = lab.wait_for(submit(tmp_path, "sleep 600"), "R").pid
        assert session is not None
    assert session_members(session) == []
