"""Frames that clients write to a run, by RPC or put, and outputs that a pool writes to a server elsewhere."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import p4p.client.thread
import pytest
from p4p import Type, Value
from test_control import client
from test_run import Case, Running, case, until
from traces import words_of

__all__ = ["case"]
pytestmark = [pytest.mark.system, pytest.mark.timeout(200)]

FIELDS = 'fields = { uniqueId = "long", timeStamp = "time", spectrum = "double[]" }'
SPECTRUM = Type([("uniqueId", "l"), ("timeStamp", ("S", "time_t", [("secondsPastEpoch", "l"), ("nanoseconds", "i"),
                 ("userTag", "i")])), ("spectrum", "ad")])  # fmt: skip

# A receiver as PvaPy's framework has them; prints its port and, when a file appears, the ids that came.
RECEIVER = """
import os, sys, time
from pathlib import Path
from beamcast.pva.environment import apply_environment, bound_ports, free_port, server_environment
mode, channel, over = sys.argv[1], sys.argv[2], Path(sys.argv[3])
port = free_port(43000, 43999, "127.0.0.1", prefer=os.getpid() % 1000)
apply_environment(server_environment(address="127.0.0.1", port=port))
import pvaccess as pva
from pvapy.hpc.rpcDataReceiver import RpcDataReceiver
ids = []
if mode == "rpc":
    RpcDataReceiver(channel, lambda pv: ids.append(pv["uniqueId"]), None).start()
else:
    server = pva.PvaServer()
    server.addRecord(channel, pva.NtNdArray(), lambda pv: ids.append(pv["uniqueId"]))
while port not in bound_ports():
    time.sleep(0.05)
print(port, flush=True)
while not over.exists():
    time.sleep(0.05)
print(ids, flush=True)
os._exit(0)
"""


def spectrum(number: int) -> Value:
    return Value(SPECTRUM, {"uniqueId": number, "spectrum": np.full(8, float(number))})


def written(case: Case, mode: str, *, top: str = "") -> None:
    case.write(simulate=False, source=f'mode = "{mode}"\n{FIELDS}', top=top)


@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])
def test_frames_by_rpc_are_all_there_when_they_are_answered(case: Case, delivery: str) -> None:
    written(case, "rpc", top=f'delivery = "{delivery}"')
    run = case.start()
    run.wait_for("is ready", 90)
    with client(case) as pva:
        first = begin(case, run, lambda number: call(pva, case, spectrum(number)))
        for number in range(first, first + 300):
            call(pva, case, spectrum(number))
        odd = Value(Type([("uniqueId", "l"), ("other", "d")]), {"uniqueId": 10**6})
        refused = pva.rpc(f"{case.prefix}:image", odd, timeout=10)
        assert refused["status"] == -1
        assert "does not have the structure of this source" in refused["errorMessage"]
    stop(case, run, first + 300 - 1)
    assert case.report()["source"]["refused"] == 1
    assert "1 frames refused, which do not have the structure of the source" in run.output


def started(case: Case, delivery: str, *, allow_lost: int) -> Running:
    """A run that takes frames by RPC, ready."""
    written(case, "rpc", top=f'delivery = "{delivery}"\nallow_lost = {allow_lost}')
    run = case.start()
    run.wait_for("is ready", 90)
    return run


def kill_under_way(pva: "p4p.client.thread.Context", case: Case, run: Running, member: str) -> int:
    """SIGKILL to a member when the run has counted a hundred frames; the next id."""
    first = begin(case, run, lambda number: call(pva, case, spectrum(number)))
    for number in range(first, first + 100):
        call(pva, case, spectrum(number))
    (process,) = [one for one in case.members() if f"beamcast.members.{member}" in words_of(one)]
    process.kill()
    return first + 100


@pytest.mark.slow
def test_a_killed_mirror_makes_clients_wait(case: Case) -> None:
    run = started(case, "at-least-once", allow_lost=600)
    with client(case) as pva:
        first = kill_under_way(pva, case, run, "dispatcher.mirror")
        for number in range(first, first + 500):
            insist(pva, case, spectrum(number))
    # What the mirror had in memory, and what came before its death was noticed.
    stop(case, run, number, lost=400)
    (missing,) = case.report()["missing"]
    assert missing["hop"] == "source→mirror"
    begin_id, end_id = (int(word) for word in missing["ids"].split("-"))
    assert first - 100 <= begin_id < end_id < number - 100, "from the mirror's return on all are there"
    assert "the mirror ended by signal 9 (SIGKILL), started again" in run.output


@pytest.mark.parametrize(("delivery", "lost"), [("at-most-once", 50), ("at-least-once", 0)])
def test_the_run_goes_on_when_its_service_is_killed(case: Case, delivery: str, lost: int) -> None:
    run = started(case, delivery, allow_lost=lost)
    with client(case) as pva:
        number = kill_under_way(pva, case, run, "intake")
        killed = time.monotonic()
        insist(pva, case, spectrum(number))
        assert time.monotonic() - killed < 20
        number += 1
        if lost:  # what comes before the ranks are back at the mirror
            number = send_until_seen(pva, case, number)
        for later in range(100):
            call(pva, case, spectrum(number + later))
    stop(case, run, number + 99, lost=lost)
    assert case.report()["frames"]["duplicates"] == 0
    assert "the intake ended by signal 9 (SIGKILL), started again" in run.output


def send_until_seen(pva: "p4p.client.thread.Context", case: Case, number: int) -> int:
    """Send a frame five times a second until a result shows the present one; the next id."""
    deadline = time.monotonic() + 20
    while True:
        call(pva, case, spectrum(number))
        time.sleep(0.2)
        number += 1
        if pva.get(f"{case.prefix}:result")["uniqueId"] == number - 1:
            return number
        assert time.monotonic() < deadline


def insist(pva: "p4p.client.thread.Context", case: Case, frame: Value) -> None:
    """Send a frame until it is answered, as a client does that is to lose nothing."""
    deadline = time.monotonic() + 40
    while True:
        try:
            return call(pva, case, frame)
        except (TimeoutError, p4p.client.thread.Disconnected):
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.slow
def test_frames_put_by_a_slow_client_are_all_there(case: Case) -> None:
    written(case, "put")
    run = case.start()
    run.wait_for("is ready", 90)
    channel = f"{case.prefix}:image"
    with client(case) as pva:

        def put(number: int) -> None:
            pva.put(
                channel, {"uniqueId": number, "spectrum": np.full(8, float(number))}, timeout=10, get=False
            )
            time.sleep(0.01)

        first = begin(case, run, put)
        for number in range(first, first + 100):
            put(number)
    stop(case, run, first + 100 - 1)


def call(pva: "p4p.client.thread.Context", case: Case, frame: Value) -> None:
    answer = pva.rpc(f"{case.prefix}:image", frame, timeout=10)
    assert answer["status"] == 0, answer


def begin(case: Case, run: object, send: object) -> int:
    """Send until the run counts; the next id."""
    number = 0
    deadline = time.monotonic() + 30
    while "is streaming" not in (case.folder / "run.log").read_text():
        assert time.monotonic() < deadline
        number += 1
        send(number)  # type: ignore[operator]
    return number + 1


def stop(case: Case, run: object, last: int, *, lost: int = 0) -> None:
    """End the run in good order; every frame up to the last came through, but for `lost` at most, which are named."""
    with client(case) as pva:
        result = f"{case.prefix}:result"
        until(
            lambda: pva.get(result)["uniqueId"] == last, 30, lambda: f"the last result is {pva.get(result)}"
        )
        assert pva.get(result)["spectrum"].tolist() == [float(last)] * 8
    done = subprocess.run([sys.executable, "-m", "beamcast", "stop", "run"], cwd=case.folder, check=False)
    assert done.returncode == 0
    assert run.wait(60) == 0, run.output[-3000:]  # type: ignore[attr-defined]
    frames = case.report()["frames"]
    assert frames["failed"] == frames["skipped"] == 0
    assert frames["collected"] + frames["lost"] == frames["source"]
    assert frames["lost"] == sum(each["count"] for each in case.report()["missing"]) <= lost
    case.assert_nothing_left()


@contextmanager
def receiver(case: Case, mode: str) -> Iterator["subprocess.Popen[str]"]:
    over = case.folder / "over"
    words = [sys.executable, "-c", RECEIVER, mode, f"{case.prefix}:elsewhere", str(over)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("mode", ["rpc", "put"])
def test_outputs_are_written_to_a_server_elsewhere(case: Case, mode: str) -> None:
    with receiver(case, mode) as there:
        assert there.stdout is not None
        port = there.stdout.readline().strip()
        forward = f'forward = {{ mode = "{mode}", channel = "{case.prefix}:elsewhere", address = "127.0.0.1:{port}" }}'
        case.write(
            frames=100,
            rate=25,
            pool=f'{forward}\n[[pools]]\nname = "second"\nrole = "consumer"\ninput = "source"',
        )
        run = case.start("--quiet")
        assert run.wait(90) == 0, run.output[-3000:]
        (case.folder / "over").touch()
        ids = json.loads(there.stdout.readline())
    assert case.report()["frames"]["lost"] == 0
    if mode == "rpc":
        assert sorted(ids) == list(range(1, 101)), "each was answered"
    else:
        # Two ranks put into one record; what was overwritten before anybody looked is not seen.
        assert set(ids) <= set(range(1, 101))
        assert len(set(ids)) > 50


def test_an_output_that_nobody_takes_fails_its_frame(case: Case) -> None:
    forward = (
        f'forward = {{ channel = "{case.prefix}:elsewhere", address = "127.0.0.1:9", timeout = "500 ms" }}'
    )
    case.write(frames=4, rate=10, pool=forward)
    run = case.start("--quiet")
    run.wait(90)
    report = case.report()
    assert report["frames"]["failed"] == 4
    assert f"{case.prefix}:elsewhere does not take the output" in report["failed_frames"][0]["error"]
