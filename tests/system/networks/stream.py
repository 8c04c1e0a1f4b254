"""A detector in one network, a run whose nodes are in the other: started on the hosts of `TwoNetworks`."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from networks.cluster import Cluster
from networks.namespace import Namespace
from networks.separated import TwoNetworks
from requirements import REPOSITORY

DETECTOR_PORT = 31500
WORKFLOW = """\
name = "far"
prefix = "{prefix}"
delivery = "{delivery}"

[source]
channel = "{channel}"
address = "{address}"
appear_timeout = "20 s"
idle_timeout = "1 s"

[[pools]]
name = "stats"
role = "consumer"
input = "source"
ranks = 2
processor = "beamcast.processors.statistics:FrameStatistics"

[[pools]]
name = "collect"
role = "collector"
input = "stats"

[results]
pool = "collect"
channel = "{prefix}:result"
"""
NOT_REACHABLE = """
[network.nodes]
interfaces = ["eth0"]
reachable = false
"""
_COLLECTED = re.compile(r"collected (\d+)")
_ENVIRONMENT = {"PYTHONPATH": str(REPOSITORY / "src"), "PYTHONUNBUFFERED": "1"}
_NO_READER = {"EPICS_PVA_AUTO_ADDR_LIST": "NO", "EPICS_PVA_ADDR_LIST": ""}


def until(condition: Callable[[], bool], seconds: float, why: Callable[[], str]) -> None:
    """Wait for a condition; AssertionError with the reason when time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)


def _listening(host: Namespace) -> list[int]:
    """TCP ports on which something listens on a host."""
    table = host.run("ss", "-Hltn").stdout
    return [int(line.split()[3].rpartition(":")[2]) for line in table.splitlines()]


class Stream:
    """One detector and one run. Names of channels are made from the folder's name, so tests do not meet."""

    def __init__(self, networks: TwoNetworks, cluster: Cluster, folder: Path) -> None:
        self._networks = networks
        self._cluster = cluster
        self.folder = folder
        self.prefix = f"far{os.getpid()}-{folder.name}"
        self.detector: subprocess.Popen[Any] | None = None
        self.run: subprocess.Popen[Any] | None = None

    @property
    def channel(self) -> str:
        """The detector's channel."""
        return f"{self.prefix}:image"

    @property
    def address(self) -> str:
        """Where the detector serves it."""
        return f"{self._networks.address(self._networks.detector)}:{DETECTOR_PORT}"

    def start_detector(self, *, rate: float = 200, first_id: int = 1, pixels: int = 128) -> None:
        """Frames without end, from the detector's host."""
        words = [
            "sim",
            self.channel,
            f"--rate={rate}",
            f"--shape={pixels}x{pixels}",
            f"--first-id={first_id}",
        ]
        words += ["--interface=eth0", f"--port={DETECTOR_PORT}"]
        self.detector = self.start(self._networks.detector, words, "detector.log")
        log = self.folder / "detector.log"
        before = log.read_text().count("serving")
        until(lambda: "serving" in log.read_text()[before:], 20, log.read_text)

    def start(self, host: Namespace, words: Sequence[str], log: str) -> "subprocess.Popen[Any]":
        """A `beamcast` command on a host; ended with the namespaces at the latest."""
        command = [sys.executable, "-m", "beamcast", *words]
        return host.start(
            *command, log=self.folder / log, environment=_ENVIRONMENT | self._cluster.environment
        )

    def start_run(
        self,
        site: Path,
        *settings: str,
        delivery: str = "at-most-once",
        host: Namespace | None = None,
        channel: str | None = None,
        address: str | None = None,
    ) -> None:
        """The run, by default from the mirror's host and with the detector as its source."""
        workflow = self.folder / "far.toml"
        workflow.write_text(
            WORKFLOW.format(
                prefix=self.prefix,
                delivery=delivery,
                channel=channel or self.channel,
                address=address or self.address,
            )
        )
        words = [
            "run",
            str(workflow),
            "--site",
            str(site),
            "--run-dir",
            str(self.folder / "run"),
            "--name",
            "far",
        ]
        words += [word for setting in settings for word in ("--set", setting)]
        self.run = self.start(host or self._networks.mirror, words, "run.log")

    @property
    def said(self) -> str:
        """What the run has printed."""
        return (self.folder / "run.log").read_text()

    def collected(self) -> int:
        """Results at the beamline so far."""
        return max((int(number) for number in _COLLECTED.findall(self.said)), default=0)

    def wait_collected(self, count: int, *, seconds: float = 90) -> None:
        """Until that many results have come; AssertionError when the run ends before or time is up."""
        assert self.run is not None

        def enough() -> bool:
            assert self.run is not None
            assert self.run.poll() is None, self.said[-4000:]
            return self.collected() >= count

        until(enough, seconds, lambda: f"{self.collected()} of {count}:\n{self.said[-4000:]}")

    def serving_port(self, host: Namespace) -> int:
        """A port on which some rank on that host listens."""
        return min(port for port in _listening(host) if 30000 <= port <= 30999)

    def names_at_beamline(self) -> str:
        """The run's name server, as the beamline reaches it."""
        join: dict[str, Any] = json.loads((self.folder / "run" / "join.json").read_text())
        return str(join["name_server"])

    def read_results(self, host: Namespace) -> Callable[[], list[int]]:
        """Read the result PV on a host from now on; the function that is given says which ids came, and ends that."""
        out = self.folder / "ids"
        script = (
            "import sys, os, time, pvaccess\n"
            "queue, channel = pvaccess.PvObjectQueue(100000), pvaccess.Channel(sys.argv[1])\n"
            "channel.qMonitor(queue, 'record[queueSize=10000]field(uniqueId)')\n"
            "with open(sys.argv[2], 'w', buffering=1) as out:\n"
            "    while True: print(queue.get(60)['uniqueId'], file=out)\n"
        )
        environment = _ENVIRONMENT | _NO_READER | {"EPICS_PVA_NAME_SERVERS": self.names_at_beamline()}
        words = [sys.executable, "-c", script, f"{self.prefix}:result", str(out)]
        process = host.start(*words, log=self.folder / "reader.log", environment=environment)
        until(lambda: out.exists() and out.stat().st_size > 0, 15, (self.folder / "reader.log").read_text)

        def ids() -> list[int]:
            process.kill()
            return [
                int(line) for line in out.read_text().split("\n")[:-1]
            ]  # the last one may be half written

        return ids

    def end_detector(self) -> None:
        """The detector's process ends; a moment later the run is idle and ends too."""
        assert self.detector is not None
        os.killpg(self.detector.pid, signal.SIGTERM)
        self.detector.wait(10)

    def report(self, *, seconds: float = 45, status: int = 0) -> dict[str, Any]:
        """The report of the run, once it has ended with that exit status."""
        assert self.run is not None
        try:
            assert self.run.wait(seconds) == status, self.said[-4000:]
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s:\n{self.said[-4000:]}") from None
        report: dict[str, Any] = json.loads((self.folder / "run" / "report.json").read_text())
        return report

    def finish(self) -> dict[str, Any]:
        """End the detector and give the report of a run that lost nothing."""
        self.end_detector()
        report = self.report()
        assert report["state"] == "done", report["reason"]
        assert report["frames"]["lost"] == 0, report["losses"]
        assert report["frames"]["collected"] == report["frames"]["source"]
        return report

    def can_get(self, host: Namespace, channel: str, address: str, *, seconds: float = 3.0) -> bool:
        """Whether a plain pvAccess client on that host gets an update of the channel from that server."""
        script = (
            "import os, sys, pvaccess\n"
            "queue, channel = pvaccess.PvObjectQueue(1), pvaccess.Channel(sys.argv[1])\n"
            "channel.qMonitor(queue, 'field()')\n"
            "try: queue.get(float(sys.argv[2])); status = 0\n"
            "except pvaccess.QueueEmpty: status = 9\n"
            "os._exit(status)"
        )
        environment = _ENVIRONMENT | _NO_READER | {"EPICS_PVA_NAME_SERVERS": address}
        done = host.run(sys.executable, "-c", script, channel, str(seconds), environment=environment)
        assert done.returncode in (0, 9), done.stderr
        return done.returncode == 0
