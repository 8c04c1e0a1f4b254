"""Runs whose standard streams are closed, full, or a pipe that nobody reads."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from endings.leftovers import left_by
from endings.trial import Outcome, command, environment
from endings.workflow import write_workflow

# What stands behind the command, in a shell; the exit status is that of the run.
CLOSED = {
    "stdout closed": ">&-",
    "stderr closed": "2>&-",
    "stdin closed": "<&-",
    "all closed": "<&- >&- 2>&-",
    "stdout full": ">/dev/full",
    "both full": ">/dev/full 2>&1",
    "reader has gone": "| true",
    "reader never reads": "| sleep 60",
}
FRAMES = 300
WHOLE_RUN_S = 120.0


def run_with_closed_streams(name: str, *, show: Callable[[Outcome], None] = lambda outcome: None) -> Outcome:
    """A run that ends by itself: all of it is done, and its exit status says so."""
    folder = Path(tempfile.mkdtemp(prefix="endings-"))
    outcome = Outcome(0, "local", "-", name)
    write_workflow(folder, prefix="streams", frames=FRAMES, rate=100)
    words = shlex.join(command("run", "workflow.toml", "--run-dir", "run", "--name", "ending"))
    # In a pipe the reader must not be what is waited for.
    line = f"({words}; echo $? > status) {CLOSED[name]}"
    began = time.monotonic()
    with (folder / "shown").open("wb") as shown:
        shell = subprocess.Popen(
            ["bash", "-c", line],
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=shown,
            stderr=shown,
            start_new_session=True,
        )
    try:
        status = folder / "status"
        while not (status.exists() and status.read_text().strip()) and time.monotonic() - began < WHOLE_RUN_S:
            time.sleep(0.05)
        if status.exists() and status.read_text().strip():
            outcome.seconds = time.monotonic() - began
            outcome.status = int(status.read_text())
            _judge(folder, outcome)
        else:
            outcome.problems.append(f"did not end within {WHOLE_RUN_S:g} s")
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
        shutil.rmtree(folder, ignore_errors=True)
    show(outcome)
    return outcome


def _judge(folder: Path, outcome: Outcome) -> None:
    run_dir = folder / "run"
    if outcome.status != 0:
        outcome.problems.append(f"exit status {outcome.status} of a run that was done")
    report = json.loads((run_dir / "report.json").read_text())
    outcome.report = report["state"]
    if report["frames"]["collected"] != FRAMES:
        outcome.problems.append(f"{report['frames']['collected']} of {FRAMES} frames")
    outcome.problems += [
        f"left: {each}"
        for each in left_by(folder, run_dir=run_dir, temporary=folder / "tmp")
        if "sleep 60" not in each and "bash" not in each
    ]
