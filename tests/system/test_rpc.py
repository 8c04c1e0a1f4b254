"""Requests of many processes at one service, as in every run: each gets its own answer, and the service lives.

The processes are an ordinary user's: root's EPICS threads have real-time priorities, which hide races.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launching import ordinary_user
from networks.namespace import free_tcp_port
from requirements import REPOSITORY

pytestmark = pytest.mark.system
CALLERS = 4
SECONDS = 5.0


@pytest.mark.timeout(90)
def test_every_caller_gets_its_own_answers(tmp_path: Path) -> None:
    script = Path(__file__).with_name("rpc_crowd.py")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    command = [*ordinary_user(), sys.executable, str(script)]
    ports = [str(free_tcp_port()), str(free_tcp_port())]
    served = subprocess.Popen(
        [*command, "serve", *ports], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    callers: list[subprocess.Popen[str]] = []
    try:
        assert served.stdout is not None
        assert served.stdout.readline().strip() == "ready"
        until = str(time.time() + SECONDS)
        callers = [
            subprocess.Popen(
                [*command, "call", ports[0], until, str(number)],
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for number in range(CALLERS)
        ]
        counts = [one.communicate(timeout=60)[0].split() for one in callers]
        assert served.poll() is None, f"the service ended with {served.returncode}"
        assert all(len(each) == 3 for each in counts), counts
        answered, troubled, troubled_on_lines = (sum(int(each[at]) for each in counts) for at in range(3))
        assert answered > 1000
        assert troubled_on_lines == 0, f"{answered} answered, {troubled} not, {troubled_on_lines} on lines"
    finally:
        for process in (served, *callers):
            process.kill()
            process.communicate()
