"""What a user sees of runs whose processor fails: the first failure at once, a verdict at the end, its exit status."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from launching import site_here
from traces import marked

pytestmark = pytest.mark.system
FIRST_PORT = 24000
PROCESSORS = """
class Raises:
    def process(self, frame):
        raise ZeroDivisionError("no frame")


class Sometimes:
    def process(self, frame):
        if frame.id % 10 == 0:
            raise ValueError("every tenth")
        return frame.image


class Forgets:
    def process(self, frame):
        frame.image.sum()
"""
WORKFLOW = """
name = "worth"
prefix = "{prefix}"
[source]
channel = "{prefix}:image"
[source.simulate]
frames = {frames}
rate = "{rate} Hz"
shape = [32, 32]
[[pools]]
name = "work"
role = "consumer"
input = "source"
processor = "mine.py:{processor}"
[[pools]]
name = "collect"
role = "collector"
input = "work"
[results]
pool = "collect"
"""


def words(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "beamcast", *arguments]


def beamcast(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        words(*arguments), cwd=folder, capture_output=True, text=True, timeout=180, check=False
    )


def prepare(folder: Path, processor: str, *, frames: int, rate: int) -> list[str]:
    """The command of a run named `worth`."""
    (folder / "mine.py").write_text(PROCESSORS)
    prefix = f"worth:{processor.lower()}:{os.getpid()}"
    text = WORKFLOW.format(prefix=prefix, processor=processor, frames=frames, rate=rate)
    (folder / "workflow.toml").write_text(text)
    (folder / "site.toml").write_text(site_here(FIRST_PORT))
    # The check would refuse what fails on the first frame.
    return words("run", "workflow.toml", "--site", "site.toml", "--name", "worth", "--no-check")


def report_of(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "runs" / "worth" / "report.json").read_text())
    return report


@pytest.mark.parametrize(
    ("processor", "frames", "rate", "status", "line"),
    [
        (
            "Raises",
            30,
            60,
            5,
            "gave nothing: all 30 frames failed: ZeroDivisionError: no frame (pool work, rank 0, frame 1)",
        ),
        ("Forgets", 30, 60, 5, "gave nothing: the processors dropped all 30 frames: they returned nothing"),
        ("Raises", 100_000, 500, 4, "failed: all "),
    ],
)
def test_a_run_that_gave_nothing_is_not_a_good_run(
    tmp_path: Path, processor: str, frames: int, rate: int, status: int, line: str
) -> None:
    """P5: every command that shows the end says the same, and those that watched it leave with its status."""
    command = prepare(tmp_path, processor, frames=frames, rate=rate)
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, **marked(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stderr
    verdict = report_of(tmp_path)["verdict"]
    assert verdict["exit_status"] == status
    assert verdict["line"].startswith(line)
    assert report_of(tmp_path)["frames"]["source"] < 5000, "it did not go on for a night"
    # On one terminal the reason stands once.
    both = done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "{" not in both, "no JSON lines between those for people"
    assert sum("error: " in each for each in both.splitlines()) == 1
    for command_name in ("attach", "report", "status"):
        shown = beamcast(tmp_path, command_name, "worth")
        assert shown.returncode == (status if command_name == "attach" else 0)
        assert " ".join(shown.stdout.split("verdict: ")[1].split()) == verdict["line"]


def test_the_first_failure_is_told_while_the_run_goes_on(tmp_path: Path) -> None:
    """P5, P12: by `run` and by `status`, on the clock of the run."""
    command = prepare(tmp_path, "Sometimes", frames=100_000, rate=100)
    log = (tmp_path / "run.log").open("w")
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **marked(tmp_path)},
    )
    try:
        failure = "first failure: ValueError: every tenth (pool work, rank 0, frame 10)"
        wait_for(tmp_path / "run.log", failure)
        status = beamcast(tmp_path, "status", "worth")
        assert failure in " ".join(status.stdout.split())
        elapsed_s = float(status.stdout.partition(" s since the start")[0].split()[-1])
        last = [line for line in (tmp_path / "run.log").read_text().splitlines() if "streaming:" in line][-1]
        assert abs(elapsed_s - float(last.split()[0])) < 5
        with following(tmp_path, "one") as follows, following(tmp_path, "two") as left:
            for name in ("one", "two"):
                wait_for(tmp_path / f"{name}.log", "controller | ")
            left.send_signal(signal.SIGINT)
            assert left.wait(30) == 0, "Ctrl-C leaves the logs in good order"
            stopped = beamcast(tmp_path, "stop", "worth", "--wait")
            assert "verdict: good, but " in stopped.stdout
            assert process.wait(120) == 0
            assert follows.wait(30) == 0, "the logs end with the run"
        assert "run worth is done" in (tmp_path / "one.log").read_text()
        assert "Traceback" not in (tmp_path / "two.log").read_text()
    finally:
        process.kill()
        process.wait()
        log.close()
    assert report_of(tmp_path)["verdict"]["word"] == "good but"
    told = (tmp_path / "run.log").read_text()
    assert told.count("first failure: ") == 1
    assert told.splitlines()[-1].split()[-1] == "10)", "the last line is the verdict"


@contextmanager
def following(folder: Path, name: str) -> Iterator["subprocess.Popen[bytes]"]:
    """`beamcast logs -f`, which writes into a file."""
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            words("logs", "worth", "-f"), cwd=folder, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_for(path: Path, text: str, *, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while text not in path.read_text():
        assert time.monotonic() < deadline, path.read_text()[-3000:]
        time.sleep(0.1)
