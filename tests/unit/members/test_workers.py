"""What a worker pool leaves behind is ended, however the pool ends."""

import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import zmq

from beamcast.members.workers import on_node

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
    words = [sys.executable, "-m", "beamcast.members.workers.on_node", str(script)]
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


@contextmanager
def interchange() -> Iterator[int]:
    """A ZeroMQ socket with Curve keys, as Parsl's interchange has it; gives its port."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.curve_publickey, router.curve_secretkey = zmq.curve_keypair()
        router.curve_server = True
        yield router.bind_to_random_port("tcp://127.0.0.1")


@contextmanager
def forwarder_to_nowhere() -> Iterator[int]:
    """Takes connections and closes them, since there is nobody behind it; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    server.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def words(port: int) -> list[str]:
    return [
        "-m",
        "pool",
        "-a",
        "127.0.0.1",
        "-p",
        "0",
        "-c",
        "1e-06",
        f"--port={port}",
        "--drain_period=None",
    ]


def test_a_pool_that_has_its_interchange_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_node, "DESERTED_S", 1.0)
    with interchange() as port:
        pool = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3)"])
        assert on_node._status_of(pool.pid, words(port)) == 0
        pool.returncode = 0  # reaped above


@pytest.mark.parametrize("forwarded", [False, True])
def test_a_pool_whose_interchange_is_gone_is_ended(monkeypatch: pytest.MonkeyPatch, forwarded: bool) -> None:
    monkeypatch.setattr(on_node, "DESERTED_S", 1.0)
    with forwarder_to_nowhere() as port:
        if not forwarded:
            port = 1  # where nobody listens
        pool = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        began = time.monotonic()
        assert on_node._status_of(pool.pid, words(port)) == 128 + signal.SIGKILL
        pool.returncode = 0  # reaped above
        assert 1.0 < time.monotonic() - began < 10.0


def test_a_pool_that_can_not_be_started_is_no_success(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "beamcast.members.workers.on_node", str(tmp_path / "no-such-command")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert "no-such-command" in done.stderr
