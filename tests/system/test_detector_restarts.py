"""A detector whose process is killed in the middle of a run, and started again: another port, and ids from 1."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_run import Case, Running, beamline_client, case, until

from beamcast.pva.endpoint import Endpoint
from beamcast.pva.environment import free_port
from beamcast.pva.nameserver import NameServer

__all__ = ["case"]
pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

LOOPBACK = "127.0.0.1"
FRAMES = 300
# The second one waits before its first frame, as a detector does until somebody starts the acquisition.
DELAY_S = 5.0


@contextmanager
def detector(channel: str, log: Path, *words: str) -> "Iterator[tuple[subprocess.Popen[bytes], Endpoint]]":
    port = free_port(28000, 28999, LOOPBACK, prefer=hash(str(log)) % 1000)
    command = [
        sys.executable,
        "-m",
        "beamcast",
        "sim",
        channel,
        f"--port={port}",
        "--shape=64x64",
        "--rate=200",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, *words], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        until(lambda: "serving" in log.read_text(), 30, log.read_text)
        yield process, Endpoint(LOOPBACK, port)
    finally:
        process.kill()
        process.wait()


def write(case: Case, delivery: str, address: str) -> None:
    case.write(
        simulate=False,
        source=f'address = "{address}"',
        top=f'delivery = "{delivery}"\nallow_lost = {0 if delivery == "at-least-once" else 100}',
    )


@contextmanager
def standing_mirror(log: Path, source: str, channel: str, asked: Endpoint) -> Iterator[Endpoint]:
    port = free_port(29000, 29999, LOOPBACK, prefer=hash(str(log)) % 1000)
    words = ["--source", source, "--channel", channel, "--listen", f"{LOOPBACK}:{port}"]
    command = [sys.executable, "-m", "beamcast", "mirror", *words, "--source-server", str(asked)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        until(lambda: "mirroring" in log.read_text(), 30, log.read_text)
        yield Endpoint(LOOPBACK, port)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])
def test_a_run_goes_on_with_a_restarted_detector(case: Case, delivery: str, end: signal.Signals) -> None:
    channel = f"{case.prefix}:image"
    with NameServer(host=LOOPBACK, port=0) as beamline:
        write(case, delivery, str(beamline.endpoint))
        with detector(channel, case.folder / "first.log") as (first, where):
            beamline.serve_at({channel: where})
            running = case.start()
            running.wait_for("is ready", 90)
            with beamline_client(case) as seen:
                running.wait_for("streaming: source", 30)
                time.sleep(2.0)
                restart(first, beamline, channel, case.folder / "second.log", delay_s=DELAY_S, end=end)
                finish(running)
                ids = seen()
    check(case, delivery, ids, running.output)


def restart(
    process: "subprocess.Popen[bytes]",
    beamline: NameServer,
    channel: str,
    log: Path,
    *,
    delay_s: float,
    end: signal.Signals = signal.SIGKILL,
) -> None:
    """End the detector and start another one, which sends its frames; returns when it has ended."""
    process.send_signal(end)
    process.wait(20)
    beamline.forget([channel])
    with detector(channel, log, f"--delay={delay_s}", f"--frames={FRAMES}", "--linger=2") as (second, where):
        beamline.serve_at({channel: where})
        second.wait(60)


def finish(running: Running) -> None:
    running.process.send_signal(signal.SIGINT)
    assert running.wait(60) == 0, running.output[-3000:]


def check(case: Case, delivery: str, ids: list[int], output: str) -> None:
    again = ids[-FRAMES:]
    assert again == list(range(1, FRAMES + 1)), (ids[-FRAMES - 5 : 20 - FRAMES], output[-2000:])
    frames = case.report()["frames"]
    assert frames["source"] == frames["collected"] + frames["lost"], frames
    # At most once, what was on its way through the mirror when the first one died is lost, and named; nothing else.
    missing = case.report()["missing"]
    assert {each["hop"] for each in missing} <= {"source→mirror"}, missing
    assert "e1:" not in str(missing), missing
    assert frames["lost"] == 0 or delivery == "at-most-once", frames
    case.assert_nothing_left()


@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])
def test_a_run_behind_a_standing_mirror_goes_on_with_a_restarted_detector(case: Case, delivery: str) -> None:
    """The mirror takes its record away before it begins again: a monitor may be dead for good then."""
    source, channel = f"{case.prefix}:raw", f"{case.prefix}:image"
    first = case.folder / "first.log"
    with NameServer(host=LOOPBACK, port=0) as beamline, detector(source, first) as (process, where):
        beamline.serve_at({source: where})
        with standing_mirror(case.folder / "mirror.log", source, channel, beamline.endpoint) as mirror:
            write(case, delivery, str(mirror))
            running = case.start()
            running.wait_for("is ready", 90)
            with beamline_client(case) as seen:
                running.wait_for("streaming: source", 30)
                time.sleep(2.0)
                restart(process, beamline, source, case.folder / "second.log", delay_s=2 * DELAY_S)
                finish(running)
                ids = seen()
    check(case, delivery, ids, running.output)


def test_a_recording_behind_a_standing_mirror_goes_on_with_a_restarted_detector(tmp_path: Path) -> None:
    source, channel = f"rec{os.getpid()}:raw", f"rec{os.getpid()}:image"
    first, second, said = tmp_path / "first.log", tmp_path / "second.log", tmp_path / "record.log"
    with NameServer(host=LOOPBACK, port=0) as beamline, detector(source, first) as (process, where):
        beamline.serve_at({source: where})
        with standing_mirror(tmp_path / "mirror.log", source, channel, beamline.endpoint) as mirror:
            words = ["record", channel, str(tmp_path / "all.h5"), f"--name-server={mirror}"]
            with said.open("wb") as output:
                record = subprocess.Popen(
                    [sys.executable, "-m", "beamcast", *words], stdout=output, stderr=output
                )
            try:
                until(lambda: "connected to" in said.read_text(), 30, said.read_text)
                time.sleep(1.0)
                restart(process, beamline, source, second, delay_s=2 * DELAY_S)
                record.send_signal(signal.SIGINT)
                assert record.wait(30) == 0, said.read_text()
            finally:
                record.kill()
                record.wait()
    assert f"e1:1-{FRAMES}" in said.read_text()
