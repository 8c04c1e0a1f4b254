"""What `doctor` finds: the checks' own answers, with commands of a batch system that say what a real one says."""

from pathlib import Path

import pytest

from beamcast.config.load import load_site
from beamcast.core.errors import UsageError, WorldError
from beamcast.launch.checks import batch, host, registry
from beamcast.launch.checks.registry import Finding, Ground, examine


def ground(tmp_path: Path, site: str = "local", *settings: str) -> Ground:
    return Ground(site=load_site(site, overrides=settings), run_root=tmp_path / "runs")


def found(name: str, where: Ground) -> list[tuple[str, str]]:
    return [(finding.verdict, finding.found) for finding in examine(where, [name])]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An otherwise empty PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def command(folder: Path, name: str, script: str = "exit 0") -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_a_slurm_that_answers(commands: Path, tmp_path: Path) -> None:
    for name in ("sbatch", "squeue", "scancel"):
        command(commands, name)
    command(
        commands,
        "sinfo",
        'case "$*" in *partition=gpu) echo gpu;; *partition=*) ;; *) echo gpu; echo long;; esac',
    )
    command(commands, "sacctmgr", "echo beam; echo other")
    here = ground(tmp_path, "slurm", "provider.partition=gpu", "provider.account=beam")
    assert [verdict for verdict, _ in found("scheduler", here)] == ["ok", "ok", "ok"]
    wrong = ground(tmp_path, "slurm", "provider.partition=gpuu", "provider.account=baem")
    assert found("scheduler", wrong)[1:] == [
        ("fail", "there is no partition gpuu"),
        ("fail", "account baem is none of yours"),
    ]
    told = [finding.do for finding in examine(wrong, ["scheduler"])]
    assert told[1:] == ["--site-set provider.partition=… (gpu, long)", "yours: beam, other"]


def test_a_host_without_the_schedulers_commands(commands: Path, tmp_path: Path) -> None:
    assert found("scheduler", ground(tmp_path, "polaris", "provider.queue=debug"))[0] == (
        "fail",
        "no qsub, qstat, qdel on PATH",
    )


def test_a_queue_that_is_not_there(commands: Path, tmp_path: Path) -> None:
    for name in ("qsub", "qdel"):
        command(commands, name)
    command(commands, "qstat", 'case "$*" in *-Q*) echo "Unknown queue $2" >&2; exit 1;; esac')
    assert found("scheduler", ground(tmp_path, "pbs", "provider.queue=dbug"))[1] == (
        "fail",
        "there is no queue dbug: Unknown queue dbug",
    )


def test_an_interface_that_is_not_there(tmp_path: Path) -> None:
    answers = found("interfaces", ground(tmp_path, "local", 'network.cluster.interfaces=["hsn9"]'))
    assert [verdict for verdict, _ in answers] == ["ok", "fail", "ok"]
    assert "none of the interfaces hsn9" in answers[1][1]


def test_a_folder_that_nodes_may_not_see_is_not_made(tmp_path: Path) -> None:
    here = ground(tmp_path, "slurm")
    assert {verdict for verdict, _ in found("run-root", here)} <= {"ok", "warn"}
    assert not here.run_root.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_check_that_breaks_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(where: Ground) -> list[Finding]:
        raise ZeroDivisionError("oh")

    def says(where: Ground) -> list[Finding]:
        raise WorldError("no cable", hint="plug it in")

    monkeypatch.setattr(registry, "_checks", {"one": breaks, "two": says})
    findings = list(examine(ground(tmp_path)))
    assert [(one.check, one.verdict, one.do) for one in findings] == [
        ("one", "fail", "please report it"),
        ("two", "fail", "plug it in"),
    ]


def test_an_unknown_check_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no check sheduler"):
        list(examine(ground(tmp_path), ["sheduler"]))
    assert {"versions", "ports", "scheduler", "mpi", "run-root"} <= set(registry.names())
    assert host.PORTS_WANTED > 3
    assert batch.ANSWER_S > 0
