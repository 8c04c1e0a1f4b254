"""Hosts that lack a name for the user, a short TMPDIR, open files, /dev/shm (C8): what can run runs, the rest is
refused in a sentence, and `beamcast doctor` tells of both before."""

import json
import os
import resource
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from requirements import need
from traces import marked, processes_of

pytestmark = pytest.mark.system

WORKFLOW = """
name = "lacks"
[source]
channel = "{prefix}:image"
[source.simulate]
frames = 50
rate = "200 Hz"
shape = [16, 16]
[[pools]]
name = "work"
role = "consumer"
input = "source"
ranks = 1
"""
# Nobody has this number.
STRANGER = 54321
BECOME = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"]
BECOME += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
NAMES = ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME")
WITHOUT_SHM = "mount -t tmpfs -o ro none /dev/shm && exec "


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "workflow.toml").write_text(WORKFLOW.format(prefix=f"lacks{os.getpid()}"))
    yield tmp_path
    for process in processes_of(tmp_path):
        process.kill()


def say(
    words: list[str], folder: Path, *, limit: Callable[[], None] | None = None, **environment: str
) -> "subprocess.CompletedProcess[str]":
    here = {name: value for name, value in os.environ.items() if name not in NAMES}
    return subprocess.run(
        words,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
        preexec_fn=limit,
        env={**here, **marked(folder), **environment},
    )


def beamcast(*words: str) -> list[str]:
    return [sys.executable, "-m", "beamcast", *words]


def few_files(hard: int) -> Callable[[], None]:
    return partial(resource.setrlimit, resource.RLIMIT_NOFILE, (40, hard))


def verdicts(said: "subprocess.CompletedProcess[str]") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in json.loads(said.stdout)["findings"]:
        found.setdefault(finding["check"], []).append(finding["verdict"])
    return found


def test_a_user_without_a_name_with_a_long_tmpdir_and_few_files_has_runs(folder: Path) -> None:
    need("namespace")
    folder.chmod(0o777)
    long = folder / ("x" * 80)
    long.mkdir()
    long.chmod(0o777)
    poor = {"limit": few_files(2000), "TMPDIR": str(long)}
    said = say([*BECOME, *beamcast("run", "workflow.toml", "--run-dir", "run")], folder, **poor)  # type: ignore[arg-type]
    assert said.returncode == 0, said.stdout
    report = json.loads((folder / "run" / "report.json").read_text())
    assert report["frames"]["processed"] == 50
    assert list(long.iterdir()) == []
    doctor = beamcast("doctor", "--json", "--only=account", "--only=limits", "--only=temporary")
    seen = verdicts(say([*BECOME, *doctor], folder, **poor))  # type: ignore[arg-type]
    assert seen["account"] == ["warn", "warn"], "neither a name nor a home"
    assert (seen["limits"][0], seen["temporary"]) == ("ok", ["warn"])


def assert_refused(said: "subprocess.CompletedProcess[str]", text: str, folder: Path) -> None:
    assert said.returncode in (1, 2)
    assert said.stdout.startswith("error: ")
    assert text in said.stdout
    assert len(said.stdout.splitlines()) == 1, said.stdout
    assert list(folder.glob("runs/*")) == []


def test_a_host_that_allows_too_few_files(folder: Path) -> None:
    said = say(beamcast("run", "workflow.toml"), folder, limit=few_files(40))
    assert_refused(said, "a process may open 40 files here, and the run needs ", folder)
    said = say(beamcast("doctor", "--json", "--only=limits"), folder, limit=few_files(40))
    assert verdicts(said)["limits"][0] == "fail"


def test_a_host_without_semaphores(folder: Path) -> None:
    need("namespace")
    within = ["unshare", "--mount", "bash", "-c"]
    said = say([*within, WITHOUT_SHM + shlex.join(beamcast("run", "workflow.toml"))], folder)
    assert_refused(said, "semaphores, for which /dev/shm has to be there and writable", folder)
    doctor = beamcast("doctor", "--json", "--only=semaphores")
    assert verdicts(say([*within, WITHOUT_SHM + shlex.join(doctor)], folder)) == {"semaphores": ["fail"]}


def test_a_node_without_semaphores_says_so_in_its_job(folder: Path) -> None:
    """Where the workers run elsewhere, it is the last line of what the job says."""
    need("namespace")
    pool = [sys.executable, "-m", "beamcast.members.workers.on_node", "-c", "pass"]
    said = say(["unshare", "--mount", "bash", "-c", WITHOUT_SHM + shlex.join(pool)], folder)
    assert said.returncode == 1
    assert said.stdout.splitlines()[-1].startswith("node ")
    assert "semaphores" in said.stdout
    assert "Traceback" not in said.stdout
