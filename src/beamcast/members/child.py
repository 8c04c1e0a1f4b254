"""Starting a member process: its command line, its log files, its end."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from beamcast.members.command import python_module
from beamcast.members.logfile import BoundedLog, pump_log

# A crash in C++ code leaves the Python lines that led there in the log, and what a processor prints or opens is UTF-8,
# whatever the locale of its node.
_OUTPUT = {"PYTHONFAULTHANDLER": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"}
TERMINATE_GRACE_S = 5.0


def member_command(module: str, run_dir: Path, arguments: Sequence[str]) -> list[str]:
    """The command that runs `beamcast.members.<module>` as a child of the caller."""
    words = ("--run-dir", str(run_dir), "--parent", str(os.getpid()), *arguments)
    return python_module(f"beamcast.members.{module}", *words)


def start_member(
    module: str,
    *,
    run_dir: Path,
    name: str,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[Any]:
    """Start one member; its output goes to <run_dir>/logs/<name>.log, appended over restarts and bounded."""
    logs = run_dir / "logs"
    with suppress(OSError):  # without a place for it there is no log; the member runs all the same
        logs.mkdir(exist_ok=True)
    log = pump_log(BoundedLog(logs / f"{name.replace('/', '-')}.log"))
    try:
        return subprocess.Popen(
            member_command(module, run_dir, arguments),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"PYTHONUTF8": "1", **os.environ, **_OUTPUT, **(environment or {})},
            # Ctrl-C goes to the controller alone, which then ends its members in order.
            start_new_session=True,
            pass_fds=pass_fds,
        )
    finally:
        os.close(log)


def end_members(processes: Sequence["subprocess.Popen[Any]"]) -> None:
    """End members that did not end by themselves: SIGTERM to all, then SIGKILL to those that stay."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + TERMINATE_GRACE_S
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_member(process: subprocess.Popen[Any]) -> int:
    """End a member that did not end by itself: SIGTERM, then SIGKILL; returns its exit status."""
    end_members([process])
    return process.wait()
