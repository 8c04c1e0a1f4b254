"""How ranks end, and whoever keeps them: told in words, and replaced as long as there are replacements."""

import json
from typing import Any

import psutil
import pytest
from test_run import Case, Running, case, until
from traces import words_of

__all__ = ["case"]
pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

ENDS = """
import os, signal
from pathlib import Path

HERE = Path(__file__).parent

class Ends:
    def process(self, frame):
        for number, end in ((100, self.crash), (200, self.vanish)):
            if frame.id == number and not (HERE / f"ended-{number}").exists():
                (HERE / f"ended-{number}").touch()
                end()
        return frame.pv

    @staticmethod
    def crash():
        os.kill(os.getpid(), signal.SIGSEGV)

    @staticmethod
    def vanish():
        os._exit(0)
"""
AT_LEAST_ONCE = 'delivery = "at-least-once"'


def deaths(report: dict[str, Any]) -> list[str]:
    return [death for pool in report["pools"] for rank in pool["ranks"] for death in rank["deaths"]]


def test_how_a_process_ended_is_told_in_words_and_none_vanishes(case: Case) -> None:
    """P17, S13: a SIGSEGV was "replaced by generation 1", os._exit(0) "not restarted again: 0"."""
    (case.folder / "ends.py").write_text(ENDS)
    case.write(frames=400, rate=200, top=AT_LEAST_ONCE, pool='processor = "ends.py:Ends"')
    running = case.start()
    assert running.wait() == 0, running.output[-3000:]
    report = case.report()
    assert (report["frames"]["collected"], report["frames"]["lost"]) == (400, 0)
    told = "\n".join(deaths(report))
    assert "its process ended by signal 11 (SIGSEGV); generation 1 has taken its place" in told
    assert (
        "its process ended with exit status 0 before its work was done: does its processor call os._exit?"
        in told
    )


def keeper_of(running: Running, pool: str, rank: int) -> psutil.Process:
    parent = running.rank(pool, rank).parent()
    assert parent is not None
    return parent


def node_of(running: Running, pool: str, rank: int) -> psutil.Process:
    """What supervises Parsl's program on the node, and takes it along when it is killed."""
    above = running.rank(pool, rank).parents()
    return next(one for one in above if "beamcast.members.workers.on_node" in words_of(one))


def pool_of(running: Running, pool: str, rank: int) -> psutil.Process:
    """Parsl's program, in which the keeper is a worker."""
    below = node_of(running, pool, rank).children()
    return next(one for one in below if "beamcast.members.workers.pool" in words_of(one))


def state(case: Case) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((case.folder / "run" / "state.json").read_text())
    return read


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "lost", [pytest.param(keeper_of, marks=SLOW), pytest.param(pool_of, marks=SLOW), node_of]
)
def test_a_lost_supervisor_is_replaced_with_all_that_it_kept(case: Case, lost: Any) -> None:
    """I3: the members of the allocation that was given up came again, and the run ended. I11: some outlived it."""
    case.write(frames=100_000, rate=100, top=AT_LEAST_ONCE)
    (case.folder / "site.toml").write_text('extends = "local"\n[allocation]\nreplacements = 2\n')
    running = case.start(site=str(case.folder / "site.toml"))
    try:
        running.wait_for("is streaming")
        lost(running, "work", 1).kill()
        running.wait_for("another allocation is asked for", 60)

        def replaced() -> bool:
            pools = state(case)["pools"]
            return all(
                one["state"] == "ready" and one["generation"] > 1 for pool in pools for one in pool["ranks"]
            )

        until(replaced, 90, lambda: running.output[-3000:])
        before = state(case)["frames"]["collected"]
        until(lambda: state(case)["frames"]["collected"] > before + 100, 30, lambda: running.output[-3000:])
        running.process.send_signal(2)
        assert running.wait(60) == 0, running.output[-3000:]
    finally:
        running.process.kill()
        running.process.wait()
    assert case.report()["frames"]["lost"] == 0
    case.assert_nothing_left(within_s=40)
