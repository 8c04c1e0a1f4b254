"""The three receivers that are compared, each as the command line of a process of its own."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from source import CHANNEL

from beamcast.pva.environment import server_environment

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Case:
    """One frame size: ``rate_hz`` is what the source offers, ``queue`` the length of both queues."""

    name: str
    size: int
    rate_hz: float
    queue: int
    seconds: float = 1.5

    @property
    def frame_bytes(self) -> int:
        """Of one frame of uint8."""
        return self.size * self.size


@dataclass(frozen=True, slots=True)
class Launch:
    """Command and environment of one receiver process."""

    command: list[str]
    environment: dict[str, str]


def bare(case: Case, source_port: int, own_port: int, folder: Path) -> Launch:
    """A monitor loop and nothing else: what the transport gives a Python process."""
    command = [sys.executable, str(HERE / "bare.py")]
    command += ["--source-port", str(source_port), "--queue", str(case.queue)]
    return Launch(command, _environment(folder, source_port, own_port))


def pvapy_consumer(case: Case, source_port: int, own_port: int, folder: Path) -> Launch:
    """PvaPy's command with a pass-through processor and an output channel."""
    command = [
        shutil.which("pvapy-hpc-consumer") or str(Path(sys.executable).parent / "pvapy-hpc-consumer"),
        "-dc",
        "-siu",
        "0",
    ]
    command += ["-ic", CHANNEL, "-oc", "bench:pvapy:output", "-of", "uniqueId"]
    command += ["-sqs", str(case.queue), "-rqs", str(case.queue)]
    command += ["-pf", str(HERE / "recorder.py"), "-pc", "RecordingPassThrough"]
    return Launch(command, _environment(folder, source_port, own_port))


def beamcast_consumer(case: Case, source_port: int, own_port: int, folder: Path) -> Launch:
    """`beamcast consumer` with a pass-through and an output channel."""
    command = [sys.executable, "-m", "beamcast", "consumer", "--input", CHANNEL]
    command += ["--output", "bench:beamcast:output", "--name-server", f"127.0.0.1:{source_port}"]
    command += ["--interface", "127.0.0.1", "--port", str(own_port)]
    command += ["--server-queue", str(case.queue), "--receiver-queue", str(case.queue)]
    command += ["--processor", f"{HERE / 'recorder.py'}:RecordingProcessor"]
    return Launch(command, _environment(folder, source_port, own_port))


SUBJECTS: dict[str, Callable[[Case, int, int, Path], Launch]] = {
    "bare": bare,
    "pvapy-hpc-consumer": pvapy_consumer,
    "beamcast": beamcast_consumer,
}


def _environment(folder: Path, source_port: int, own_port: int) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EPICS_")}
    served = server_environment(address="127.0.0.1", port=own_port, name_servers=[f"127.0.0.1:{source_port}"])
    return {**inherited, **served, "BEAMCAST_BENCH_OUT": str(folder)}
