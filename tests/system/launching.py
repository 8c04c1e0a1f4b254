"""Running `beamcast` as a user does, where the commands of a batch system are the lab's."""

import json
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from requirements import REPOSITORY
from traces import marked

FIRST_LIGHT = REPOSITORY / "examples" / "first-light" / "workflow.toml"


def site_here(first_port: int) -> str:
    """The text of a site file: this machine, with a thousand ports of its own."""
    return f'extends = "local"\n[network.ports]\nfirst = {first_port}\nlast = {first_port + 999}\n'


def ordinary_user(*, powers: str = "dac_read_search") -> list[str]:
    """What makes an ordinary user's command of one of root's; nothing where we are one. The interpreter may lie in
    root's home: the one right to look into folders is kept, no other, and none with `powers=""`."""
    if os.geteuid() != 0:
        return []
    nobody = pwd.getpwnam("nobody")
    become = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    kept = f",+{powers}" if powers else ""
    return [*become, f"--inh-caps=-all{kept}", f"--ambient-caps=-all{kept}"]


@contextmanager
def detector(*words: str) -> Iterator[str]:
    """A detector in a process of its own, a script that prints its port; gives where it serves."""
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def run_command(folder: Path, site: Path, name: str, settings: Sequence[str]) -> list[str]:
    """`beamcast run` of the first-light example; its run directory is `folder`/run."""
    words = [sys.executable, "-m", "beamcast", "run", str(FIRST_LIGHT), "--site", str(site), "--quiet"]
    words += ["--run-dir", str(folder / "run"), "--name", name]
    return words + [word for setting in settings for word in ("--set", setting)]


def submit_command(folder: Path, site: Path, name: str, settings: Sequence[str]) -> list[str]:
    """`beamcast submit` of the same."""
    words = run_command(folder, site, name, settings)
    return ["submit" if word == "run" and words[at - 1] == "beamcast" else word for at, word in enumerate(words)
            if word != "--quiet"]  # fmt: skip


def start_run(words: list[str], folder: Path, environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    """Start the command on the lab's login node: this machine with the lab's environment."""
    return subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, **environment, **marked(folder), "PYTHONPATH": str(REPOSITORY / "src")},
    )


def wait_for_results(folder: Path, *, results: int = 50, timeout_s: float = 120) -> None:
    """Wait until a detached run in `folder`/run has collected some results, as it writes down."""
    deadline = time.monotonic() + timeout_s
    state = folder / "run" / "state.json"
    while not (state.exists() and json.loads(state.read_text())["frames"]["collected"] >= results):
        assert time.monotonic() < deadline, (folder / "run" / "logs" / "controller.log").read_text()[-3000:]
        time.sleep(0.1)


def wait_for_end(folder: Path, *, timeout_s: float = 180) -> dict[str, Any]:
    """The final report of a detached run in `folder`/run, once it has one and its controller has gone."""
    deadline = time.monotonic() + timeout_s
    lease = folder / "run" / "lease.json"
    while not ((folder / "run" / "report.json").exists() and json.loads(lease.read_text())["released"]):
        assert time.monotonic() < deadline, (folder / "run" / "logs" / "controller.log").read_text()[-3000:]
        time.sleep(0.1)
    return read_report(folder)


def read_report(folder: Path) -> dict[str, Any]:
    """The final report of the run in `folder`/run."""
    report: dict[str, Any] = json.loads((folder / "run" / "report.json").read_text())
    return report
