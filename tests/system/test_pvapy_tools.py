"""PvaPy's own commands at either end of ours: each feeds a beamcast pool, and each that reads reads from one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import psutil
import pytest
from test_cli import beamcast, running, where
from test_run import Case, case, until

from beamcast.core.ids import parse_ranges
from beamcast.pva.environment import free_port, server_environment

__all__ = ["case"]
pytestmark = [pytest.mark.system, pytest.mark.timeout(200)]

IDS = """
from pvapy.hpc.userDataProcessor import UserDataProcessor


class Ids(UserDataProcessor):
    def __init__(self, configDict={}):
        UserDataProcessor.__init__(self, configDict)
        self.file = open(configDict["file"], "w", buffering=1)

    def process(self, pvObject):
        print(pvObject["uniqueId"], file=self.file)
        return pvObject
"""


class TheyCrashedError(Exception):
    """One of PvaPy's commands was ended by a signal that nobody sent: pvaccess may crash while it connects."""


def unless_they_crash(attempt: Callable[[], None]) -> None:
    """Try a test again, twice at most, when a command of PvaPy's has crashed. What fails otherwise fails."""
    for left in (2, 1, 0):
        try:
            return attempt()
        except TheyCrashedError:
            if not left:
                raise
    return None


@contextmanager
def pvapy(log: IO[str], command: str, *arguments: str, name_server: str | None = None) -> Iterator[str]:
    """One of PvaPy's commands while the block lasts; where it serves."""
    port = free_port(45000, 45999, "127.0.0.1", prefer=os.getpid() % 1000)
    servers = [name_server] if name_server else []
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / command), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **server_environment(address="127.0.0.1", port=port, name_servers=servers)},
    )
    try:
        until(lambda: listens(process), 30, lambda: f"{command} does not listen")
        yield f"127.0.0.1:{port}"
    finally:
        crashed = (process.poll() or 0) < 0
        process.send_signal(signal.SIGKILL)
        process.wait()
        if crashed:
            raise TheyCrashedError(f"{command}: {signal.Signals(-process.returncode).name}")


def listens(process: "subprocess.Popen[bytes]") -> bool:
    """Whether it does, without connecting, or has ended. A connection that goes again at once can harm it."""
    if process.poll() is not None:
        return True
    connections = psutil.Process(process.pid).net_connections("tcp")
    return any(one.status == psutil.CONN_LISTEN for one in connections)


def simulator(channel: str) -> list[str]:
    return [
        "-cn",
        channel,
        "-nx",
        "32",
        "-ny",
        "24",
        "-fps",
        "50",
        "-std",
        "0",
        "-rt",
        "300",
        "-dc",
        "-rp",
        "0",
    ]


def test_a_chain_of_their_commands_and_our_ranks_in_turn_loses_no_frame(tmp_path: Path) -> None:
    unless_they_crash(lambda: chain_of_both(tmp_path))


def chain_of_both(tmp_path: Path) -> None:
    def ours(number: int, source: str, server: str) -> list[str]:
        return ["consumer", "--input", source, "--output", f"it:b{number}:output", "--name-server", server]

    plain = ["-pc", "pvapy.hpc.userDataProcessor.UserDataProcessor", "-sqs", "1000", "-rqs", "1000", "-dc"]
    with ExitStack() as stack:
        log = stack.enter_context((tmp_path / "pvapy.log").open("w"))
        at = stack.enter_context(pvapy(log, "pvapy-ad-sim-server", *simulator("it:image")))
        at = where(stack.enter_context(running(*ours(1, "it:image", at), cwd=tmp_path)))
        mirrored = ["-cm", "(it:mirror,it:b1:output,pva,1000)"]
        at = stack.enter_context(pvapy(log, "pvapy-mirror-server", *mirrored, name_server=at))
        at = where(stack.enter_context(running(*ours(2, "it:mirror", at), cwd=tmp_path)))
        consumed = ["-ic", "it:b2:output", "-oc", "it:consumer:output", *plain]
        at = stack.enter_context(pvapy(log, "pvapy-hpc-consumer", *consumed, name_server=at))
        at = where(stack.enter_context(running(*ours(3, "it:consumer:output", at), cwd=tmp_path)))
        collected = ["-ic", "it:b*:output", "-pid", "3", "-oc", "it:collector:output", "-ccs", "10", *plain]
        at = stack.enter_context(pvapy(log, "pvapy-hpc-collector", *collected, name_server=at))
        last = [*ours(4, "it:collector:output", at), "--frames", "150", "--report-json", "last.json"]
        done = beamcast(*last, "--appear-timeout", "30", cwd=tmp_path)
        assert done.returncode == 0, done.stderr + (tmp_path / "pvapy.log").read_text()[-3000:]
    report = json.loads((tmp_path / "last.json").read_text())
    ids = parse_ranges(report["processed_ids"])
    assert len(ids) == report["processed"] >= 150
    assert report["missing"] == report["failed"] == 0
    assert ids.max() - ids.min() + 1 == len(ids)


@pytest.mark.slow
def test_a_run_reads_their_simulator_and_their_consumer_reads_its_results(case: Case) -> None:
    (case.folder / "ids.py").write_text(IDS)
    ids_file = case.folder / "ids.txt"
    with ExitStack() as stack:
        log = stack.enter_context((case.folder / "pvapy.log").open("w"))
        at = stack.enter_context(pvapy(log, "pvapy-ad-sim-server", *simulator(f"{case.prefix}:image")))
        case.write(simulate=False, source=f'address = "{at}"')
        run = case.start()
        run.wait_for("is streaming")
        names = json.loads((case.folder / "run" / "join.json").read_text())["name_server"]
        reads = [
            "-ic",
            f"{case.prefix}:result",
            "-pf",
            str(case.folder / "ids.py"),
            "-pc",
            "Ids",
            "-sqs",
            "1000",
        ]
        reads += ["-pa", json.dumps({"file": str(ids_file)}), "-rqs", "1000", "-dc"]
        stack.enter_context(pvapy(log, "pvapy-hpc-consumer", *reads, name_server=names))
        until(lambda: len(seen(ids_file)) > 150, 60, lambda: (case.folder / "pvapy.log").read_text()[-3000:])
        run.process.send_signal(signal.SIGINT)
        assert run.wait(60) == 0, run.output[-3000:]
        ids = seen(ids_file)
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    frames = case.report()["frames"]
    assert frames["lost"] == frames["skipped"] == 0
    assert frames["collected"] == frames["source"] >= len(ids)


def seen(path: Path) -> list[int]:
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [int(line) for line in lines]
