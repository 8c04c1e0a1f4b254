"""Starting and ending the daemons of the lab, by their pid files."""

import os
import secrets
import signal
import subprocess
import time
from pathlib import Path

from networks.namespace import run
from slurm.conf import LabShape


def start_munge(shape: LabShape) -> Path:
    """Start munged with a key and a socket of its own; returns its pid file."""
    folder = shape.munge_socket.parent
    folder.mkdir(mode=0o755)
    key = folder / "key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    pid_file = folder / "munged.pid"
    files = [f"--key-file={key}", f"--socket={shape.munge_socket}", f"--pid-file={pid_file}"]
    files += [f"--log-file={folder / 'log'}", f"--seed-file={folder / 'seed'}"]
    # --force: the folder lies under one that others may write to, which munged takes for an error.
    run("munged", "--force", *files)
    return pid_file


def start_controller(shape: LabShape) -> Path:
    """Start slurmctld; returns its pid file."""
    run("slurmctld", "-f", str(shape.folder / "slurm.conf"))
    return shape.folder / "pid" / "slurmctld.pid"


def read_pid(pid_file: Path) -> int | None:
    """The pid in a pid file, if that process runs."""
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


def end_daemon(pid_file: Path, *, grace_s: float = 5.0) -> None:
    """SIGTERM, then SIGKILL after `grace_s`."""
    deadline = time.monotonic() + grace_s
    pid = read_pid(pid_file)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    while read_pid(pid_file) is not None:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.02)


def remove_cgroups(nodes: tuple[str, ...]) -> None:
    """Remove the freezer groups that slurmd keeps for its node."""
    root = Path("/sys/fs/cgroup/freezer")
    for node in nodes:
        top = root / f"slurm_{node}"
        groups = [path for path in top.rglob("*") if path.is_dir()] if top.is_dir() else []
        for group in [*sorted(groups, reverse=True), *([top] if top.is_dir() else [])]:
            group.rmdir()


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log, for a failure's message."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return f"(no {path.name})"


def output(words: list[str], environment: dict[str, str], *, timeout_s: float = 20) -> str:
    """A scheduler command's standard output; RuntimeError with its complaint when it fails."""
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={**os.environ, **environment},
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
