"""`beamcast mirror` for days: truthful numbers for each channel, and it comes back when its source does."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beamcast.pva.environment import free_port

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

LOOPBACK = "127.0.0.1"
READER = """
import os, sys, pvaccess
queue, channel = pvaccess.PvObjectQueue(10000), pvaccess.Channel(sys.argv[1])
channel.qMonitor(queue, "record[queueSize=1000]field(uniqueId)")
with open(sys.argv[2], "w", buffering=1) as out:
    while True:
        try: print(queue.get(0.2)["uniqueId"], file=out)
        except pvaccess.QueueEmpty: pass
"""


class Bench:
    """Processes of one test, all ended with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prefix = f"standing{os.getpid()}"
        self._processes: list[subprocess.Popen[Any]] = []

    def start(
        self, words: list[str], log: str, environment: dict[str, str] | None = None
    ) -> "subprocess.Popen[Any]":
        with (self.folder / log).open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            )
        self._processes.append(process)
        return process

    def said(self, log: str) -> str:
        return (self.folder / log).read_text()

    def source(
        self, name: str, port: int, *, rate: float, first_id: int = 1, frames: int | None = None
    ) -> Any:
        words = [
            "-m",
            "beamcast",
            "sim",
            f"{self.prefix}:{name}",
            f"--rate={rate}",
            "--shape=32x32",
            f"--port={port}",
        ]
        words += [f"--first-id={first_id}"] + ([f"--frames={frames}", "--linger=60"] if frames else [])
        return self.start(words, f"{name}.log")

    def mirror(self, port: int, servers: list[int], *more: str) -> Any:
        words = [
            "-m",
            "beamcast",
            "mirror",
            "--source",
            f"{self.prefix}:a",
            "--channel",
            f"{self.prefix}:ma",
            *more,
        ]
        words += ["--port", str(port), "--every", "0.5", "--json"]
        words += [word for server in servers for word in ("--source-server", f"{LOOPBACK}:{server}")]
        process = self.start(words, "mirror.log")
        until(lambda: "mirroring" in self.said("mirror.log"), 30, lambda: self.said("mirror.log"))
        return process

    def counts(self) -> dict[str, dict[str, Any]]:
        lines = [line for line in self.said("mirror.log").splitlines() if line.startswith("[")]
        return {one["channel"]: one for one in json.loads(lines[-1])} if lines else {}

    def reader(self, port: int, out: str) -> Any:
        environment = {
            "EPICS_PVA_AUTO_ADDR_LIST": "NO",
            "EPICS_PVA_ADDR_LIST": "",
            "EPICS_PVA_NAME_SERVERS": f"{LOOPBACK}:{port}",
        }
        return self.start(
            ["-c", READER, f"{self.prefix}:ma", str(self.folder / out)], "reader.log", environment
        )

    def ids(self, out: str) -> list[int]:
        path = self.folder / out
        return [int(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait(10)


def until(condition: Callable[[], bool], seconds: float, why: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    one = Bench(tmp_path)
    yield one
    one.end()


LENT: list[int] = []


def ports(count: int) -> list[int]:
    # Below the ports that the kernel gives to clients: one that tries to reach a dead server may reach itself there.
    # None twice: pvaccess can't have a port again for up to a minute after a server that died with clients.
    for _ in range(count):
        after = LENT[-1] + 1 - 28000 if LENT else os.getpid() * 37 % 900
        LENT.append(free_port(28000, 28999, LOOPBACK, prefer=after % 1000))
    return LENT[-count:]


def test_each_channel_has_its_own_numbers(bench: Bench) -> None:
    one, two, mirror = ports(3)
    bench.source("a", one, rate=200, frames=600)
    bench.source("b", two, rate=50, frames=60)
    other = f"{bench.prefix}:b={bench.prefix}:mb"
    bench.mirror(mirror, [one, two], "--also", other)

    def settled() -> bool:
        before = bench.counts()
        time.sleep(1.2)
        return bool(before) and before == bench.counts() and before[f"{bench.prefix}:ma"]["received"] > 1

    until(settled, 40, lambda: bench.said("mirror.log"))
    counts = bench.counts()
    # Each gets what its own source sent from the moment of connecting: never the sum of both.
    assert 0 < counts[f"{bench.prefix}:mb"]["received"] <= 61
    assert 61 < counts[f"{bench.prefix}:ma"]["received"] <= 601
    assert all(one["comebacks"] == 0 for one in counts.values())


def test_it_comes_back_with_a_restarted_detector_and_serves_a_restarted_consumer(bench: Bench) -> None:
    source, later, mirror = ports(3)
    detector = bench.source("a", source, rate=100)
    bench.mirror(mirror, [source, later])
    first = bench.reader(mirror, "first")
    until(lambda: len(bench.ids("first")) > 50, 30, lambda: bench.said("reader.log"))
    first.kill()
    first.wait()
    bench.reader(mirror, "second")
    until(lambda: len(bench.ids("second")) > 50, 20, lambda: bench.said("reader.log"))
    detector.kill()
    detector.wait()
    # A new life of the detector: its ids begin anew. pvaccess can't have the old port again for a minute.
    bench.source("a", later, rate=100, first_id=1_000_000)
    began = time.monotonic()
    until(
        lambda: bench.counts()[f"{bench.prefix}:ma"]["comebacks"] == 1,
        30,
        lambda: bench.said("a.log") + bench.said("mirror.log"),
    )
    print(f"the mirror is back {time.monotonic() - began:.1f} s after the detector was started")
    # PvaPy's mirror takes its record away when the source goes, which ends monitors for good as often as not, those of
    # pvxs too. A run goes on all the same (`test_detector_restarts.py`); others connect anew.
    bench.reader(mirror, "third")
    until(lambda: len(bench.ids("third")) > 50, 20, lambda: bench.said("reader.log"))
    assert min(bench.ids("third")) >= 1_000_000


PVXS_READER = """
import os, queue, sys
from p4p.client.thread import Context
arrived = queue.Queue()
context = Context("pva", nt=False)
subscription = context.monitor(sys.argv[1], arrived.put, request="record[queueSize=1000]field(uniqueId)")
with open(sys.argv[2], "w", buffering=1) as out:
    while True:
        print(arrived.get()["uniqueId"], file=out)
"""


def test_clients_of_pvxs_find_it_and_it_can_be_started_again_at_once(bench: Bench) -> None:
    """I6: a name server for clients of pvxs; ended with readers connected, its port is free for the next one."""
    source, mirror, names = ports(3)
    bench.source("a", source, rate=50)
    for number in range(2):
        standing = bench.mirror(mirror, [source], "--name-port", str(names))
        told = f"EPICS_PVA_NAME_SERVERS={LOOPBACK}:{names}"
        until(lambda told=told: told in bench.said("mirror.log"), 10, lambda: bench.said("mirror.log"))
        environment = {
            "EPICS_PVA_AUTO_ADDR_LIST": "NO",
            "EPICS_PVA_ADDR_LIST": "",
            "EPICS_PVA_NAME_SERVERS": f"{LOOPBACK}:{names}",
        }
        words = ["-c", PVXS_READER, f"{bench.prefix}:ma", str(bench.folder / f"pvxs{number}")]
        reader = bench.start(words, "pvxs.log", environment)
        other = bench.reader(mirror, f"pvaccess{number}")
        for out in (f"pvxs{number}", f"pvaccess{number}"):
            until(
                lambda out=out: len(bench.ids(out)) > 10,
                40,
                lambda: bench.said("mirror.log") + bench.said("pvxs.log"),
            )
        standing.send_signal(signal.SIGINT)
        assert standing.wait(20) == 0, bench.said("mirror.log")
        (bench.folder / "mirror.log").unlink()
        # They go after it: their connections were open when it ended.
        reader.kill()
        other.kill()
