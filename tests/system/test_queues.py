"""Queues by bytes, and who lost a frame."""

import pytest
from test_run import Case, case

__all__ = ["case"]
pytestmark = [pytest.mark.system, pytest.mark.timeout(200)]

SLOW = """
import time


class Slow:
    def process(self, frame):
        time.sleep(0.03)
        return frame.pv if frame.id % 10 else None
"""


def test_what_a_full_queue_refuses_is_told_apart_from_what_the_processor_drops(case: Case) -> None:
    (case.folder / "slow.py").write_text(SLOW)
    # Frames of 4 KiB, 100 a second to a rank that does 33: of 16 that wait each further one is refused.
    pool = 'processor = "slow.py:Slow"\nreceiver_queue_bytes = "64 KiB"\nserver_queue_bytes = "8 MiB"'
    case.write(frames=400, rate=200, pool=pool, top="allow_lost = 400")
    running = case.start("--quiet")
    assert running.wait(90) == 0, running.output[-3000:]
    report = case.report()
    frames = report["frames"]
    ranks = report["pools"][0]["ranks"]
    refused = sum(rank["receiver_rejected"] for rank in ranks)
    assert frames["lost"] == refused > 100
    assert sum(rank["server_overruns"] for rank in ranks) == frames["skipped"] == frames["failed"] == 0
    assert frames["dropped"] == sum(rank["dropped"] for rank in ranks) > 0
    assert frames["source"] == 400 == frames["collected"] + frames["dropped"] + frames["lost"]
    assert {(missing["hop"], missing["pool"]) for missing in report["missing"]} == {("mirror→work", "work")}
