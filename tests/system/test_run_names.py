"""Runs side by side in a folder: names, the list, replacing, logs; with runs that end at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system
WORKFLOW = """
name = "names"
[source]
channel = "{prefix}:image"
[source.simulate]
frames = 5
[[pools]]
name = "work"
role = "consumer"
input = "source"
"""
# A run that fails before anything is started: it has a directory, a log and a report all the same.
FAILS = "network.beamline.interfaces=['nosuch0']"


def beamcast(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "beamcast", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_an_earlier_run_is_never_overwritten(tmp_path: Path) -> None:
    """P8."""
    (tmp_path / "w.toml").write_text(WORKFLOW.format(prefix=f"names:{os.getpid()}"))
    run = ("run", "w.toml", "--name", "scan", "--set-site", FAILS)
    first = beamcast(tmp_path, *run)
    assert first.returncode == 1
    assert "nosuch0" in first.stderr
    kept = (tmp_path / "runs" / "scan" / "report.json").read_text()

    second = beamcast(tmp_path, *run)
    assert "there is a run scan already: this one is scan-2" in second.stdout
    assert (tmp_path / "runs" / "scan" / "report.json").read_text() == kept
    assert (tmp_path / "runs" / "scan-2" / "report.json").exists()

    chosen = beamcast(tmp_path, *run, "--run-dir", "runs/scan")
    assert chosen.returncode == 2
    assert "an earlier run is in runs/scan. --replace removes it" in chosen.stderr
    assert (tmp_path / "runs" / "scan" / "report.json").read_text() == kept

    listed = beamcast(tmp_path, "list")
    assert listed.returncode == 0
    assert [line.split()[:2] for line in listed.stdout.splitlines()[1:]] == [
        ["scan", "failed"],
        ["scan-2", "failed"],
    ]
    assert "nosuch0" in listed.stdout

    replaced = beamcast(tmp_path, *run, "--replace")
    assert "already" not in replaced.stdout
    assert (tmp_path / "runs" / "scan" / "report.json").read_text() != kept
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["scan", "scan-2"]

    logs = beamcast(tmp_path, "logs", "scan", "--follow")
    assert logs.returncode == 0
    assert "controller | " in logs.stdout


def test_a_process_that_could_not_begin_says_why_where_the_user_looks(tmp_path: Path) -> None:
    """P17: too few ports; the message is that of the process which got none, without a traceback around it."""
    (tmp_path / "w.toml").write_text(WORKFLOW.format(prefix=f"ports:{os.getpid()}"))
    (tmp_path / "few.toml").write_text(
        'extends = "local"\n[network.ports]\nfirst = 26990\nlast = 26994\n'  # the controller has three of them
    )
    done = beamcast(tmp_path, "run", "w.toml", "--site", "few.toml", "--name", "few")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert " died: no free TCP port on 127.0.0.1 between 26990 and 26994" in line, done.stderr
    assert "widen the port range" in line
    assert "Traceback" not in done.stderr
    asked = beamcast(tmp_path, "control", "few", "get_stats")
    assert asked.returncode == 2
    assert "the run in runs/few has ended: failed: the " in asked.stderr


def test_nothing_is_left_of_a_run_that_was_refused(tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_text(WORKFLOW.format(prefix="x"))
    assert beamcast(tmp_path, "run", "w.toml", "--name", "a b").returncode == 2
    assert not (tmp_path / "runs").exists()
    empty = beamcast(tmp_path, "list")
    assert (empty.returncode, empty.stdout) == (0, "no runs in runs\n")
