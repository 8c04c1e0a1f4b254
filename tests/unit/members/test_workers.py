"""What a worker pool leaves behind is ended, however the pool ends."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from beamcast.members import workers

# Starts a process that takes the place of a forgotten worker, and says which it is.
LEAVES_ONE = """
    import os, subprocess, sys
    import tempfile
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    print(left.pid, tempfile.mkdtemp(), flush=True)
"""


def start(folder: Path, end: str) -> "tuple[subprocess.Popen[str], psutil.Process, Path]":
    """The pool's process, the one that it has started, and the temporary folder that it has made."""
    script = folder / "pool.py"
    script.write_text(textwrap.dedent(LEAVES_ONE) + end)
    words = [sys.executable, "-m", "beamcast.members.workers", str(script)]
    pool = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert pool.stdout is not None
    pid, left = pool.stdout.readline().split()
    assert Path(left).is_dir()
    return pool, psutil.Process(int(pid)), Path(left)


def wait_gone(process: psutil.Process) -> None:
    deadline = time.monotonic() + 10
    while process.is_running():
        assert time.monotonic() < deadline, "the orphan stays"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("end", "status"),
    [("", 0), ("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 128 + 9)],
)
def test_orphans_end_with_the_pool(tmp_path: Path, end: str, status: int) -> None:
    pool, orphan, left = start(tmp_path, end)
    with pool:
        assert pool.wait(10) == status
    wait_gone(orphan)
    assert not left.exists()


def test_the_order_to_end_reaches_all(tmp_path: Path) -> None:
    pool, orphan, left = start(tmp_path, "import time; time.sleep(600)")
    with pool:
        pool.send_signal(signal.SIGTERM)
        assert pool.wait(10) == 128 + signal.SIGTERM
    wait_gone(orphan)
    assert not left.exists()


def test_a_pool_that_hangs_without_children_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "CHILDLESS_S", 1.0)
    script = tmp_path / "pool.py"
    script.write_text(
        "import subprocess, time\n"
        "subprocess.run(['sleep', '2'])\n"  # as long as it has a child, it works
        "time.sleep(600)\n"
    )
    pool = subprocess.Popen([sys.executable, str(script)])
    began = time.monotonic()
    assert workers._status_of(pool.pid) == 128 + signal.SIGKILL
    pool.returncode = 0  # reaped above
    assert 2.0 < time.monotonic() - began < 20.0


def test_a_pool_that_can_not_be_started_is_no_success(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "beamcast.members.workers", str(tmp_path / "no-such-command")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert "no-such-command" in done.stderr
