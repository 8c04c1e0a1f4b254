"""Detached runs: what `submit` starts goes on by itself, and other commands find it from anywhere."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from requirements import REPOSITORY, need

pytestmark = pytest.mark.system

WORKFLOW = """
name = "detached"
delivery = "at-least-once"
[source]
channel = "{prefix}:image"
[source.simulate]
frames = 1000000
rate = "100 Hz"
shape = [64, 64]
[[pools]]
name = "work"
role = "consumer"
input = "source"
[[pools]]
name = "collect"
role = "collector"
input = "work"
[results]
pool = "collect"
channel = "{prefix}:result"
"""
RUN = "runs/here"


class Desk:
    """A folder with a workflow, and the commands that a user gives in it."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self.folder = folder
        (folder / "workflow.toml").write_text(WORKFLOW.format(prefix=prefix))

    def give(
        self, *words: str, before: tuple[str, ...] = (), timeout_s: float = 90
    ) -> "subprocess.CompletedProcess[str]":
        """Give a command and wait for its end."""
        return subprocess.run(
            [*before, sys.executable, "-m", "beamcast", *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "NO_COLOR": "1"},
        )

    def submit(self, *more: str) -> "subprocess.CompletedProcess[str]":
        return self.give("submit", "workflow.toml", "--name", "here", *more)

    def state(self, *, before: tuple[str, ...] = ()) -> dict[str, Any]:
        done = self.give("status", "here", "--json", before=before)
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def wait_for(self, condition: Callable[[], bool], what: str, *, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
            time.sleep(0.1)

    def lease(self) -> dict[str, Any]:
        lease: dict[str, Any] = json.loads((self.folder / RUN / "lease.json").read_text())
        return lease

    def live(self) -> dict[str, Any]:
        """What the controller last wrote down."""
        path = self.folder / RUN / "state.json"
        report: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"state": "none"}
        return report

    def processes(self) -> list[psutil.Process]:
        """Everything that works for the run, wherever it hangs."""
        mark = str(self.folder)
        found = []
        for process in psutil.process_iter(["cmdline"]):
            if process.pid != os.getpid() and any(mark in word for word in process.info["cmdline"] or []):
                found.append(process)
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    one = Desk(tmp_path, f"sub{os.getpid()}:{abs(hash(tmp_path.name)) % 10**6}")
    yield one
    left = one.processes()
    for process in left:
        process.kill()
    assert not left, [process.info for process in left]


def test_a_run_goes_on_alone_and_is_found_watched_and_ended(desk: Desk) -> None:
    done = desk.submit()
    assert done.returncode == 0, done.stderr
    assert "here is" in done.stdout
    assert "its directory is runs/here" in done.stdout
    controller = psutil.Process(desk.lease()["pid"])
    assert os.getsid(controller.pid) == controller.pid, "a session of its own"
    assert controller.ppid() == 1 or controller.parent() is None or controller.ppid() != os.getpid()

    again = desk.submit("--replace")
    assert again.returncode == 2
    assert "a run is going on in" in again.stderr
    desk.wait_for(lambda: desk.live()["state"] == "streaming", "streaming")

    watching = subprocess.Popen(
        [sys.executable, "-m", "beamcast", "attach", "here"],
        cwd=desk.folder,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
    )
    assert watching.stdout is not None
    assert "streaming: source" in watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    said, _ = watching.communicate(timeout=30)
    assert watching.returncode == 0
    assert "the run goes on" in said
    assert desk.state()["state"] == "streaming"

    ended = desk.give("stop", "here", "--wait")
    assert ended.returncode == 0, ended.stderr
    assert "here  done" in ended.stdout
    report = json.loads((desk.folder / RUN / "report.json").read_text())
    assert (report["state"], report["frames"]["lost"]) == ("done", 0)
    assert report["frames"]["collected"] > 0
    desk.wait_for(lambda: not desk.processes(), "all processes gone", timeout_s=20)
    assert desk.lease()["released"]
    assert not (desk.folder / RUN / "state.json").exists()
    assert "here  done" in desk.give("report", "here").stdout
    assert "here  done" in desk.give("attach", "here").stdout


def test_a_host_that_sees_only_the_directory_can_look_and_stop(desk: Desk) -> None:
    need("netns")
    elsewhere = ("unshare", "--net")  # a network without any way to the controller
    assert desk.submit().returncode == 0
    desk.wait_for(lambda: desk.live()["state"] == "streaming", "streaming")
    looked = desk.give("status", "here", before=elsewhere)
    assert looked.returncode == 0, looked.stderr
    assert "as its controller (pid" in looked.stdout
    assert desk.state(before=elsewhere)["state"] == "streaming"
    stopped = desk.give("stop", "here", "--wait", before=elsewhere)
    assert stopped.returncode == 0, stopped.stderr
    assert "has taken the request to stop" in stopped.stdout
    assert "here  done" in stopped.stdout
    assert not (desk.folder / RUN / "stop.json").exists()
    desk.wait_for(lambda: not desk.processes(), "all processes gone", timeout_s=20)


@pytest.mark.slow
def test_a_dead_controller_is_recognised_and_its_directory_can_be_used_again(desk: Desk) -> None:
    assert desk.submit().returncode == 0
    psutil.Process(desk.lease()["pid"]).kill()
    for words in (("status", "here"), ("stop", "here"), ("attach", "here")):
        done = desk.give(*words)
        assert done.returncode == 1, done.stdout
        assert "has no controller any more and left no report (its process is gone" in done.stderr
    desk.wait_for(lambda: not desk.processes(), "all processes gone", timeout_s=40)
    again = desk.submit("--replace", "--set", "source.simulate.frames=50")
    assert again.returncode == 0, again.stderr
    assert desk.lease()["epoch"] == 2
    desk.wait_for(lambda: (desk.folder / RUN / "report.json").exists(), "the report")
    desk.wait_for(lambda: not desk.processes(), "all processes gone", timeout_s=20)


def test_what_is_wrong_is_said_before_submit_returns(desk: Desk) -> None:
    wrong = desk.submit("--site", "no-such-site")
    assert wrong.returncode == 2
    assert "no-such-site" in wrong.stderr
    late = desk.submit("--set-site", "network.cluster.interfaces=['nosuch0']")
    assert late.returncode == 1, late.stdout
    assert "nosuch0" in late.stderr
    report = json.loads((desk.folder / RUN / "report.json").read_text())
    assert report["state"] == "failed"
    assert "nosuch0" in report["reason"]
