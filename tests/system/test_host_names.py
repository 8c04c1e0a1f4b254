"""Host names where addresses stand (C2): resolved everywhere, or refused at once."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_detector_restarts import detector, finish, write
from test_run import Case, case

__all__ = ["case"]
pytestmark = pytest.mark.system


def beamcast(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "beamcast", *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_source_that_is_given_by_its_host_name(case: Case) -> None:
    with detector(f"{case.prefix}:image", case.folder / "detector.log") as (_, at):
        write(case, "at-least-once", f"localhost:{at.port}")
        running = case.start()
        running.wait_for("streaming: source", 60)
        finish(running)
    frames = case.report()["frames"]
    assert frames["source"] == frames["collected"] > 0
    assert "Traceback" not in running.output + case.logs()


def test_a_name_server_that_is_given_by_its_host_name(case: Case) -> None:
    channel = f"{case.prefix}:image"
    with detector(channel, case.folder / "detector.log") as (_, at):
        name_server = f"--name-server=localhost:{at.port}"
        said = beamcast(case.folder, "record", channel, "out.h5", name_server, "--frames=20")
        assert said.returncode == 0, said.stdout


def test_a_host_that_nobody_knows_is_told_at_once(case: Case) -> None:
    case.write(simulate=False, source='address = "nowhere.invalid:5075"')
    said = beamcast(case.folder, *case.command()[3:])
    assert said.returncode == 1
    assert "Traceback" not in said.stdout
    assert "error: the host name 'nowhere.invalid' has no IPv4 address here" in said.stdout
