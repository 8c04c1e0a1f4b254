"""One trial: a real `beamcast run` on Parsl, a beamline client beside it, and hands to hurt the run's processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import tomli_w
from chaos.verdict import Arrival, read_arrivals, results_of

HERE = Path(__file__).resolve().parent
SOURCE_TREE = HERE.parents[1] / "src"
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 20.0


class Trial:
    """A run in `folder`, which must be empty. A context manager that leaves no process behind."""

    def __init__(
        self,
        folder: Path,
        workflow: Mapping[str, Any],
        *,
        site: str = "local",
        site_settings: Sequence[str] = (),
        inside: Callable[[Sequence[str]], list[str]] = list,
    ) -> None:
        """`inside` turns a command into one that runs where the controller and the client are to live."""
        self.folder = folder
        self.run_dir = folder / "run"
        self._workflow = workflow
        self._site = site
        self._site_settings = site_settings
        self._inside = inside
        self._arrivals = folder / "arrivals.txt"
        self._run: subprocess.Popen[bytes] | None = None
        self._client: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the run and the client; RuntimeError when no run comes up."""
        path = self.folder / "workflow.toml"
        path.write_text(tomli_w.dumps(self._workflow))
        words = [sys.executable, "-m", "beamcast", "run", str(path), "--site", self._site, "--quiet"]
        words += ["--run-dir", str(self.run_dir), "--name", f"chaos-{self.folder.name}"]
        for setting in self._site_settings:
            words += ["--set-site", setting]
        try:
            self._run = self._start(words, "run.log")
            self._wait_until(self._joinable, "the run has a name server", START_TIMEOUT_S)
            server = json.loads((self.run_dir / "join.json").read_text())["name_server"]
            client = [sys.executable, str(HERE / "client.py"), "--channel", self._workflow["results"]["channel"]]
            client += ["--name-server", server, "--out", str(self._arrivals)]
            self._client = self._start(client, "client.log", stdin=subprocess.PIPE)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start(self, words: Sequence[str], log: str, *, stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EPICS_")}
        with (self.folder / log).open("wb") as output:
            return subprocess.Popen(
                self._inside(words),
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**inherited, "PYTHONPATH": str(SOURCE_TREE)},
                start_new_session=True,
            )

    def _joinable(self) -> bool:
        return (self.run_dir / "join.json").exists()

    def _end(self) -> None:
        for process in (self._client, self._run):
            if process is None:
                continue
            if process.stdin is not None:
                process.stdin.close()
            if process.poll() is None:
                process.terminate()
                _wait_or_kill(process)
        for left in self.processes():
            left.kill()

    # -- what happens ----------------------------------------------------------------------------------------------

    @property
    def arrivals(self) -> list[Arrival]:
        """What the client has received so far, the PV's first value included."""
        return read_arrivals(self._arrivals)

    @property
    def results(self) -> list[Arrival]:
        """The results that the client has received so far."""
        return results_of(self.arrivals)

    def wait_for_results(self, count: int, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until so many results have come; RuntimeError when they don't."""
        self._wait_until(lambda: len(self.results) >= count, f"{count} results have come", timeout_s)

    def wait_for_log(self, words: str, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until the controller's log has these words."""
        log = self.run_dir / "logs" / "controller.log"
        self._wait_until(lambda: log.exists() and words in log.read_text(), f"the log says {words!r}", timeout_s)

    def finish(self, *, timeout_s: float) -> int:
        """Wait for the end of the run and let the client write its last lines; returns the run's exit status."""
        assert self._run is not None
        assert self._client is not None
        assert self._client.stdin is not None
        try:
            status = self._run.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the run does not end:\n{self._log_tail()}") from None
        self._client.stdin.close()
        self._client.wait(STOP_TIMEOUT_S)
        return status

    def stop(self) -> None:
        """Ask the run to drain and end, as Ctrl-C does."""
        assert self._run is not None
        for process in self.processes("-m beamcast run"):
            process.send_signal(signal.SIGINT)

    def report(self) -> dict[str, Any]:
        """The final report."""
        report: dict[str, Any] = json.loads((self.run_dir / "report.json").read_text())
        return report

    def _wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self._run is not None
            if self._run.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"not so: {what} (run: {self._run.poll()}):\n{self._log_tail()}")
            time.sleep(0.05)

    def _log_tail(self) -> str:
        logs = [self.folder / "run.log", self.run_dir / "logs" / "controller.log"]
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in logs if path.exists())

    # -- who lives, and hands to hurt them -------------------------------------------------------------------------

    def processes(self, *words: str) -> list[psutil.Process]:
        """Processes of this run whose command line has all the words, oldest first."""
        found = []
        for process in psutil.process_iter(["cmdline", "create_time"]):
            line = " ".join(process.info["cmdline"] or ())
            if str(self.folder) in line and all(word in line for word in words):
                found.append(process)
        return sorted(found, key=lambda process: process.info["create_time"])

    def rank(self, pool: str, rank: int) -> psutil.Process:
        """The process of a rank; RuntimeError when it has none just now."""
        found = self.processes("beamcast.members.rank", f"--pool={pool} ", f"--rank={rank} ")
        if not found:
            raise RuntimeError(f"rank {pool}/{rank} has no process")
        return found[-1]

    def ranks(self, pool: str) -> list[psutil.Process]:
        """The processes of a pool's ranks."""
        return self.processes("beamcast.members.rank", f"--pool={pool} ")

    def managers(self) -> list[psutil.Process]:
        """Parsl's managers, one for each node of an allocation, and what they have started."""
        found = self.processes("process_worker_pool")
        return [each for manager in found for each in (manager, *manager.children(recursive=True))]


def kill(processes: Sequence[psutil.Process]) -> float:
    """SIGKILL to all of them; returns the time of the wall clock."""
    blow_at = time.time()
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    return blow_at


def _wait_or_kill(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
