"""What a run has left behind on this machine."""

import json
import time
from pathlib import Path

import psutil

# Members end when they see that nobody is there; what was told to end needs a moment.
GONE_WITHIN_S = 10.0
MARK = "BEAMCAST_TEST_RUN"


def processes_of(folder: Path) -> list[psutil.Process]:
    """All that were started from a command that had the folder's name as its mark, whatever became of their parents.
    Some of Parsl's write a title over their environment: they are known by their working folder."""
    found = []
    for process in psutil.process_iter(["environ", "status", "cwd"]):
        environment, where = process.info["environ"] or {}, Path(process.info["cwd"] or "/")
        ours = environment.get(MARK) == str(folder) or where.is_relative_to(folder)
        if ours and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def left_by(folder: Path, *, run_dir: Path, temporary: Path) -> list[str]:
    """Processes (with them their ports), lease, files: each in a few words; nothing when all is well."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while (left := processes_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    told = [f"process {process.pid} {_words(process)}" for process in left]
    lease = run_dir / "lease.json"
    if lease.is_file() and not json.loads(lease.read_text())["released"]:
        told.append("its lease")
    told += [
        f"{name} in the run directory" for name in ("state.json", "books.bin") if (run_dir / name).exists()
    ]
    told += [f"temporary file {path.name}" for path in temporary.iterdir()]
    return told


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:160]
    except psutil.Error:
        return "(ended meanwhile)"
