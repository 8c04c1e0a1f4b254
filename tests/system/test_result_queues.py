"""Results that come in bursts, and clients that ask for no queue: each result is seen."""

import json
import subprocess
import sys
import time

import burst_source
import pytest
from launching import detector
from test_run import Case, case

__all__ = ["case"]
# Slow: what a client loses that asks for no queue depends on what else the machine does; the rule itself is in
# `tests/unit/core/test_spacing.py`.
pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(200)]

BURSTS, FRAMES = 30, 10
# What a p4p user writes who has read nothing.
CLIENT = """
import os, queue, sys
os.environ.update(EPICS_PVA_NAME_SERVERS=sys.argv[1], EPICS_PVA_AUTO_ADDR_LIST="NO")
from p4p.client.thread import Context
arrived = queue.Queue()
context = Context("pva", nt=False)
subscription = context.monitor(sys.argv[2], arrived.put)
while True:
    print(arrived.get()["uniqueId"], flush=True)
"""


@pytest.mark.parametrize("by", ["monitor", "push"])
def test_a_client_with_its_default_request_sees_results_that_come_together(case: Case, by: str) -> None:
    """I2, P10: of results that come together, p4p saw some."""
    go = case.folder / "go"
    with detector(burst_source.__file__, f"{case.prefix}:image", str(BURSTS), str(FRAMES), str(go)) as at:
        case.write(simulate=False, source=f'address = "{at}"\nidle_timeout = "3 s"')
        running = case.start("--set", f"results.by={by}")
        running.wait_for("is ready", 90)
        server = json.loads((case.folder / "run" / "join.json").read_text())["name_server"]
        seen = case.folder / "seen"
        with seen.open("w") as out:
            words = [sys.executable, "-c", CLIENT, server, f"{case.prefix}:result"]
            client = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out)
        try:
            deadline = time.monotonic() + 60
            while not seen.read_text():
                assert time.monotonic() < deadline
                time.sleep(0.1)
            go.touch()
            assert running.wait(90) == 0, running.output[-3000:]
        finally:
            client.kill()
            client.wait()
    ids = {int(line) for line in seen.read_text().split("\n")[:-1]} - {0}
    collected = case.report()["frames"]["collected"]
    assert collected > BURSTS * FRAMES * 0.9
    # On a machine that is busy with other things such a client may still lose some.
    print(f"{len(ids)} of {collected}")
    assert len(ids) > collected * 0.9, f"{len(ids)} of {collected}"
