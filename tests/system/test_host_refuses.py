"""What the operating system refuses at the start, and in mid-run (P9, S7): sentences, and runs that go on."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from launching import ordinary_user
from requirements import need
from traces import marked, processes_of

pytestmark = pytest.mark.system

WORKFLOW = """
name = "refused"
delivery = "at-least-once"
[source]
channel = "{prefix}:image"
[source.simulate]
rate = "100 Hz"
shape = [16, 16]
[[pools]]
name = "work"
role = "consumer"
input = "source"
ranks = 1
[[pools]]
name = "collect"
role = "collector"
input = "work"
[results]
pool = "collect"
channel = "{prefix}:result"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "workflow.toml").write_text(WORKFLOW.format(prefix=f"refused{os.getpid()}"))
    yield tmp_path
    for process in processes_of(tmp_path):
        process.kill()


def beamcast(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "beamcast", *words]


def assert_a_sentence(said: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert said.returncode == 1, said.stdout
    assert "Traceback" not in said.stdout
    assert "fault of beamcast" not in said.stdout
    (line,) = [line for line in said.stdout.splitlines() if line.startswith("error: ")]
    assert all(part in line for part in parts), line


def say(words: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **marked(folder), **environment},
    )


@pytest.mark.parametrize("command", ["run", "submit"])
def test_a_folder_in_which_nobody_may_write(folder: Path, command: str) -> None:
    folder.chmod(0o555)
    said = say([*ordinary_user(), *beamcast(folder, command, "workflow.toml")], folder)
    assert_a_sentence(
        said, f"{folder}/runs: a run directory can't be made here: permission denied", "--run-dir"
    )


def test_no_home_folder(folder: Path) -> None:
    said = say([*ordinary_user(), *beamcast(folder, "site-key")], folder, HOME="/nonexistent")
    assert_a_sentence(said, "/nonexistent", "permission denied")


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    need("small-disk")
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6M", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_disk_that_is_full_from_the_start(folder: Path) -> None:
    with small_disk(folder / "disk"):
        fill(folder / "disk")
        said = say(beamcast(folder, "run", "workflow.toml", "--run-dir", "disk/run"), folder)
    assert_a_sentence(said, "disk/run: a run directory can't be made here: the disk is full")


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            pass


def remove(run_dir: Path, pid: int) -> None:
    # Its processes write there meanwhile: it is gone at once, and not emptied file by file.
    run_dir.rename(run_dir.with_name("gone"))
    shutil.rmtree(run_dir.with_name("gone"))


def limit_files(run_dir: Path, pid: int) -> None:
    """As ordinary users can try it: the controller may write no file that has more than 10 bytes."""
    controller = json.loads((run_dir / "lease.json").read_text())["pid"]
    resource.prlimit(controller, resource.RLIMIT_FSIZE, (10, 10))


def fill_disk(run_dir: Path, pid: int) -> None:
    fill(run_dir.parent)


@pytest.mark.parametrize("harm", [fill_disk, remove, limit_files])
def test_a_run_goes_on_without_its_directory(folder: Path, harm: Callable[[Path, int], None]) -> None:
    """The stream is whole, the trouble is told once, and the report is somewhere, or its absence is told."""
    run_dir = folder / "disk" / "run"
    words = beamcast(folder, "run", "workflow.toml", "--run-dir", str(run_dir), "--name", "refused")
    disk = small_disk(folder / "disk") if harm is fill_disk else nullcontext()
    with disk, streaming(words, folder) as running:
        harm(run_dir, running.pid)
        # The state file is written every two seconds, the books each second.
        time.sleep(4)
        assert running.poll() is None, "the run has ended"
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=60)
        told = [line for line in said.splitlines() if "can't be written" in line and "warning" in line]
        assert "Traceback" not in said, said
        assert 1 <= len(told) <= 2, said  # the run directory, and the log in it
        if harm is limit_files:
            assert running.returncode == 1
            assert "the report can't be written: the file would be larger than is allowed" in said, said
            assert "report: " not in said
            return
        found = re.search(r"^report: (.*)$", said, re.MULTILINE)
        assert found is not None, said
        report = json.loads((folder / found[1]).read_text())
        assert running.returncode == int(found[1] != "disk/run/report.json"), said
    frames = report["frames"]
    assert report["state"] == "done"
    assert frames["source"] == frames["collected"] > 200, said
    assert frames["lost"] == 0


@contextmanager
def streaming(words: list[str], folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A run that has begun to stream; what it says later is in its pipe."""
    running = subprocess.Popen(
        words,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **marked(folder), "TMPDIR": str(folder)},
    )
    with running:
        assert running.stdout is not None
        for line in running.stdout:
            if " streaming" in line:
                break
        try:
            yield running
        finally:
            running.kill()
