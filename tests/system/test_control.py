"""A run is told things while it streams: from the command line, by p4p (which is pvxs), and by ophyd-async."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import p4p.client.thread
import pytest
from test_run import Case, Running, case, until

__all__ = ["case"]
pytestmark = [pytest.mark.system, pytest.mark.timeout(200)]

GAIN = """
import os


class Gain:
    output = {"gain": float, "pid": int}

    def __init__(self, *, gain: float = 1.0):
        self.gain = gain

    def configure(self, *, gain: float):
        self.gain = gain

    def process(self, frame):
        return {"gain": self.gain, "pid": os.getpid()}
"""
COLLECT = 'processor = "gain.py:Gain"'


@pytest.fixture
def running(case: Case) -> Iterator[Running]:
    (case.folder / "gain.py").write_text(GAIN)
    case.write(frames=100_000, rate=100, top=f'prefix = "{case.prefix}"', pool=COLLECT)
    one = case.start()
    try:
        one.wait_for("is streaming")
        yield one
    finally:
        one.process.kill()
        one.process.wait()


def client(case: Case) -> "p4p.client.thread.Context":
    conf = {"EPICS_PVA_NAME_SERVERS": name_server(case), "EPICS_PVA_AUTO_ADDR_LIST": "NO"}
    return p4p.client.thread.Context("pva", conf=conf, useenv=False, nt=False)


def name_server(case: Case) -> str:
    text: str = json.loads((case.folder / "run" / "join.json").read_text())["name_server"]
    return text


def command(case: Case, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "beamcast", "control", "run", *words],
        cwd=case.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def ask(
    pva: "p4p.client.thread.Context", channel: str, name: str, args: str = "", *, wait: bool | None = None
) -> tuple[int, str]:
    """Write a command as PvaPy's users do; what is there when the time of the record has changed. With `wait` p4p
    writes without processing the record."""
    before = pva.get(channel)["objectTime"]
    pva.put(channel, {"command": name, "args": args}, wait=wait)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        pv = pva.get(channel)
        if pv["objectTime"] != before:
            return int(pv["returnCode"]), str(pv["statusMessage"])
        time.sleep(0.02)
    raise AssertionError(f"{channel} does not answer {name}")


def test_the_command_line_configures_ranks_and_a_restarted_one_keeps_it(case: Case, running: Running) -> None:
    done = command(case, "configure", "gain=7")
    assert done.returncode == 0, "P15: the collector is not meant"
    assert done.stdout == "collect/0: has nothing to configure\nwork/0: configured\nwork/1: configured\n"
    done = command(case, "configure", "--pool", "work", "gain=3")
    assert (done.returncode, done.stdout) == (0, "work/0: configured\nwork/1: configured\n"), done.stderr
    with client(case) as pva:
        until(lambda: pva.get(f"{case.prefix}:result")["gain"] == 3.0, 10, lambda: "the gain is not 3")
        old = running.rank("work", 1)
        old.kill()
        output = f"{case.prefix}:work:1:output"
        until(
            lambda: got(pva, output, "pid") not in (None, 0, old.pid),
            20,
            lambda: "the killed rank did not come back",
        )
        assert got(pva, output, "gain") == 3.0, "it has its parameters again"

    done = command(case, "configure", "--pool", "work", "--rank", "0", "gain='high'")
    assert done.returncode == 1
    assert "work/0: error: not configured: configure: parameter 'gain' = 'high'" in done.stdout
    done = command(case, "configure", "gian=2")
    assert done.returncode == 1
    assert "unknown parameter 'gian' (did you mean 'gain'?)" in done.stdout
    assert "collect/0: error: not configured: this processor has no configure()" in done.stdout
    for words, expected in [
        (["configure", "--pool", "wrok", "gain=2"], "Did you mean 'work'?"),
        (["configure", "--pool", "work", "--rank", "7", "gain=2"], "has ranks 0 to 1, not 7"),
        (["confgure", "gain=2"], "did you mean 'configure'?"),
        (["stop", "gain=2"], "takes no parameters"),
        (["configure", "gain"], "is not NAME=VALUE"),
    ]:
        done = command(case, *words)
        assert done.returncode == 2
        assert expected in done.stderr

    processed = {name: stats["processorStats"]["nProcessed"] for name, stats in stats_of_work(case).items()}
    assert command(case, "reset_stats").returncode == 0
    for name, stats in stats_of_work(case).items():
        assert 0 < stats["processorStats"]["nProcessed"] < processed[name], "counted since the reset"
    assert command(case, "drain").returncode == 0
    assert running.wait(40) in (0, 3), running.output[-3000:]
    assert case.report()["state"] == "done"


def stats_of_work(case: Case) -> dict[str, Any]:
    """The statistics of the two ranks of the pool."""
    done = command(case, "get_stats", "--pool", "work", "--json")
    answers = json.loads(done.stdout)["answers"]
    return {name: answers[name]["stats"] for name in ("work/0", "work/1")}


def got(pva: "p4p.client.thread.Context", channel: str, field: str) -> Any:
    try:
        return pva.get(channel, timeout=1)[field]
    except (TimeoutError, p4p.client.thread.Disconnected):
        return None


def test_p4p_reads_status_and_writes_control(case: Case, running: Running) -> None:
    prefix = case.prefix
    with client(case) as pva:
        until(lambda: pva.get(f"{prefix}:state")["value"] == "streaming", 10, lambda: "not streaming")
        assert pva.get(f"{prefix}:state").getID() == "epics:nt/NTScalar:1.0"
        check_tables(pva, prefix)
        check_pvi(pva, prefix)
        run, pool, rank = f"{prefix}:control", f"{prefix}:work:control", f"{prefix}:work:1:control"
        assert ask(pva, pool, "configure", '{"gain": 2}', wait=True) == (0, "2 ranks: configured")
        until(
            lambda: pva.get(f"{prefix}:result")["gain"] == 2.0, 10, lambda: "not configured by the pool's PV"
        )
        assert ask(pva, rank, "configure", '{"gain": 5}') == (0, "configured")
        assert ask(pva, run, "configure", '{"gain": 4}') == (0, "2 ranks: configured"), (
            "the collector is not meant"
        )
        collector = f"{prefix}:collect:control"
        code, said = ask(pva, collector, "configure", '{"gain": 4}')
        assert code == 1
        assert said == "collect/0: not configured: this processor has no configure()"
        assert ask(pva, rank, "reset_stats", wait=True) == (0, "statistics reset")
        assert ask(pva, rank, "get_stats") == (0, "statistics updated")
        assert pva.get(f"{prefix}:work:1:status")["processorStats.nProcessed"] < 200

        for channel in (run, pool, rank):
            check_bad_commands(pva, channel)
        pva.put(f"{prefix}:work:command", {"value": 'configure {"gain": 6}'})
        answer = f"{prefix}:work:answer"
        until(lambda: pva.get(answer)["value"] == "2 ranks: configured", 10, lambda: pva.get(answer)["value"])
        pva.put(f"{prefix}:work:command", {"value": "confgure"})
        until(lambda: "did you mean 'configure'" in pva.get(answer)["value"], 10, lambda: "no answer")

        # One rank leaves in good order; the other one gets all frames from then on.
        assert ask(pva, f"{prefix}:work:0:control", "drain") == (
            0,
            "drained: it takes no more frames and ends",
        )
        ranks = f"{prefix}:work:ranks"
        until(
            lambda: list(pva.get(ranks)["value.state"]) == ["finished", "ready"], 10, lambda: "not finished"
        )
        pva.put(f"{prefix}:control", {"command": "stop", "args": ""})
        until(lambda: running.process.poll() is not None, 40, lambda: "not stopped")
    report = case.report()
    assert report["state"] == "done"
    assert report["frames"]["failed"] == 0
    lost = sum(missing["count"] for missing in report["missing"] if missing["hop"] == "mirror→work")
    assert report["frames"]["lost"] == lost < 50, "what was on its way to the rank that left, at 100 frames/s"
    case.assert_nothing_left()


def check_tables(pva: "p4p.client.thread.Context", prefix: str) -> None:
    ranks = pva.get(f"{prefix}:work:ranks")
    assert ranks.getID() == "epics:nt/NTTable:1.0"
    assert list(ranks["labels"]) == list(ranks["value"].keys())
    assert list(ranks["value.rank"]) == [0, 1]
    until(
        lambda: min(pva.get(f"{prefix}:work:ranks")["value.processed"]) > 0,
        10,
        lambda: "nothing is processed",
    )
    lost = pva.get(f"{prefix}:frames:lost")  # I8: nothing is, whatever is on its way
    assert (lost["value"], lost["alarm.severity"], lost["display.units"]) == (0, 0, "frames")
    assert pva.get(f"{prefix}:rate")["display.units"] == "frames/s"
    assert pva.get(f"{prefix}:source_state")["value"] == "present"
    pools = pva.get(f"{prefix}:pools")["value"]
    assert list(pools["pool"]) == ["work", "collect"]
    assert list(pools["ranks"]) == list(pools["live"]) == [2, 1]


def check_pvi(pva: "p4p.client.thread.Context", prefix: str) -> None:
    tree = pva.get(f"{prefix}:PVI")["value"].todict()
    assert tree["state"] == {"r": f"{prefix}:state"}
    assert tree["pool_work"] == {"d": f"{prefix}:work:PVI"}
    assert tree["drain"] == {"x": f"{prefix}:drain"}
    for entry in tree.values():
        for channel in entry.values():
            assert pva.get(channel, timeout=20) is not None


def check_bad_commands(pva: "p4p.client.thread.Context", channel: str) -> None:
    for name, args, words in [
        ("explode", "", "unknown command 'explode'"),
        ("configure", "gain=3", "args are not JSON"),
        ("configure", "[3]", "must be a JSON object"),
        ("configure", '{"gain": "' + "x" * 1_000_000 + '"}', "args are too long"),
        ("x" * 1_000_000, "", "unknown command 'xxx"),
    ]:
        code, said = ask(pva, channel, name, args)
        assert code == 1
        assert words in said
        assert len(said) < 400


OPHYD = """
import asyncio, sys
from ophyd_async.core import Device, init_devices
from ophyd_async.epics.core import PviDeviceConnector

prefix = sys.argv[1]


async def main():
    async with init_devices(timeout=20):
        run = Device(connector=PviDeviceConnector(prefix + ":"), name="run")
    while await run.state.get_value() == "starting":
        await asyncio.sleep(0.05)
    print(await run.state.get_value())
    table = await run.pool_work.ranks.get_value()
    print(table.rank.tolist())
    await run.pool_work.command.set('configure {"gain": 9}')
    for _ in range(200):
        if await run.pool_work.answer.get_value():
            break
        await asyncio.sleep(0.05)
    print(await run.pool_work.answer.get_value())
    await run.drain.execute() if hasattr(run.drain, "execute") else await run.drain.trigger()


asyncio.run(main())
"""


def test_ophyd_async_builds_a_device_from_the_pvi_tree(case: Case, running: Running) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPHYD, case.prefix],
        env={**os.environ, "EPICS_PVA_NAME_SERVERS": name_server(case), "EPICS_PVA_AUTO_ADDR_LIST": "NO"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.stdout.splitlines() == ["streaming", "[0, 1]", "2 ranks: configured"], done.stderr[-3000:]
    assert running.wait(40) == 0, running.output[-3000:]
    assert case.report()["frames"]["lost"] == 0
