"""A locale without UTF-8 (C9): files, batch scripts, logs and terminals."""

import json
import os
import pty
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from traces import marked, processes_of

pytestmark = pytest.mark.system

ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
WORKFLOW = """
name = "locale"
description = "detector → größer"
delivery = "at-least-once"
[source]
channel = "{prefix}:image"
[source.simulate]
frames = 60
rate = "100 Hz"
shape = [16, 16]
[[pools]]
name = "work"
role = "consumer"
input = "source"
ranks = 1
processor = "größe.py:Loud"
[[pools]]
name = "collect"
role = "collector"
input = "work"
[results]
pool = "collect"
channel = "{prefix}:result"
"""
PROCESSOR = """
class Loud:
    def process(self, frame):
        if frame.id % 50 == 1:
            print("größer →", flush=True)
        return frame.pv
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "größe"
    folder.mkdir()
    text = WORKFLOW.format(prefix=f"locale{os.getpid()}")
    (folder / "workflow.toml").write_text(text, encoding="utf-8")
    (folder / "größe.py").write_text(PROCESSOR, encoding="utf-8")
    yield folder
    for process in processes_of(folder):
        process.kill()


def test_a_run_whose_files_are_full_of_other_letters(folder: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "beamcast", "run", "workflow.toml", "--run-dir", "läuft", "--name", "locale"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=90,
        check=False,
        env={**os.environ, **marked(folder), **ASCII},
    )
    text = (said.stdout + said.stderr).decode()
    assert said.returncode == 0, text
    assert "Traceback" not in text
    run_dir = folder / "läuft"
    frames = json.loads((run_dir / "report.json").read_text(encoding="utf-8"))["frames"]
    assert (frames["collected"], frames["failed"]) == (60, 0)
    # What is left can be read by a controller that goes on, and by people.
    kept = tomllib.loads((run_dir / "workflow.toml").read_text(encoding="utf-8"))
    assert kept["description"] == "detector → größer"
    assert "größer →" in (run_dir / "logs" / "work-0.log").read_text(encoding="utf-8")


def test_a_terminal_gets_what_it_can_show(folder: Path) -> None:
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "beamcast", "run", "fehlt-größe.toml"]
    with subprocess.Popen(
        words, cwd=folder, stdout=theirs, stderr=theirs, env={**os.environ, **ASCII}
    ) as process:
        os.close(theirs)
        said = b""
        while b"no such file" not in said:
            said += os.read(ours, 4096)
        assert process.wait(30) == 2
    os.close(ours)
    assert b"fehlt-gr" in said
    assert b"Traceback" not in said
    assert said.isascii()
