"""One trial: a real `beamcast run` on Parsl, a beamline client beside it, and hands to hurt the run's processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import tomli_w

from beamcast.members.names import NameServerProcess
from beamcast.pva.endpoint import Endpoint
from beamcast.pva.environment import free_port
from chaos.load import RESULT, SOURCE, Load
from chaos.verdict import Arrival, read_arrivals, results_of

HERE = Path(__file__).resolve().parent
SOURCE_TREE = HERE.parents[1] / "src"
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 20.0
# Seen a few times on a loaded machine: a pvaccess client that started with the run hangs in its first `get` for good,
# whatever its timeout. A fresh process does not.
CLIENT_TIMEOUT_S, CLIENT_TRIES = 30.0, 3


class Trial:
    """A run in `folder`, which must be empty. A context manager that leaves no process behind."""

    def __init__(
        self,
        folder: Path,
        load: Load,
        *,
        site: str = "local",
        site_settings: Sequence[str] = (),
        inside: Callable[[Sequence[str]], list[str]] = list,
        cable: Any = None,
        names: NameServerProcess | None = None,
    ) -> None:
        """`inside` turns a command into one that runs where the controller and the client are to live. `cable` is the
        host on the other side of the network, where there is one. `names` is told where the detector is."""
        self.cable = cable
        self._names = names
        self.folder = folder
        self.run_dir = folder / "run"
        self._load = load
        self._site = site
        self._site_settings = site_settings
        self._inside = inside
        self._arrivals = [folder / "arrivals.txt"]
        self._run: subprocess.Popen[bytes] | None = None
        self._client: subprocess.Popen[bytes] | None = None
        self._detector: subprocess.Popen[bytes] | None = None
        self._to_take = 0
        self._detector_port = 0

    def __enter__(self) -> Self:
        """Start detector, run and client, and wait until frames may be taken; RuntimeError when no run comes up."""
        try:
            self._start_run(self._start_detector())
            self._wait_until(self._joinable, "the run has a name server", START_TIMEOUT_S)
            self._start_client()
        except BaseException:
            self._end()
            raise
        return self

    def _start_client(self) -> None:
        """Start the client, again where it finds nothing: no frame has been taken yet."""
        words = [sys.executable, str(HERE / "client.py"), "--channel", RESULT]
        words += ["--run-dir", str(self.run_dir), "--out", str(self._arrivals[-1])]
        for tries_left in range(CLIENT_TRIES - 1, -1, -1):
            self._client = self._start(words, "client.log", stdin=subprocess.PIPE)
            try:
                self._wait_until(self._says("client.log", "ready"), "the client receives", CLIENT_TIMEOUT_S)
                return
            except RuntimeError:
                if not tries_left:
                    raise
                _end_process(self._client)

    def _start_detector(self) -> str:
        port = free_port(42000, 42999, "127.0.0.1", prefer=os.getpid() % 1000)
        words = [sys.executable, str(HERE / "detector.py"), "--channel", SOURCE, "--port", str(port)]
        words += ["--size", str(self._load.size), "--rate-hz", str(self._load.rate_hz), str(self.folder)]
        self._detector = self._start(words, "detector.log", stdin=subprocess.PIPE)
        self._wait_until(self._says("detector.log", "ready"), "the detector serves", START_TIMEOUT_S)
        self._detector_port = port
        if self._names is None:
            return f"127.0.0.1:{port}"
        self._names.serve_at({SOURCE: Endpoint("127.0.0.1", port)})
        return str(self._names.endpoint)

    def restart_detector(self) -> None:
        """SIGKILL to the detector, which is started again and waits for the run; it needs a name server."""
        assert self._detector is not None
        assert self._names is not None
        self._detector.kill()
        _end_process(self._detector)
        self._names.forget([SOURCE])
        self._start_detector()
        self._to_take = 0
        self._wait_until(self._detector_is_read, "the run reads the detector again", START_TIMEOUT_S)

    def _detector_is_read(self) -> bool:
        assert self._detector is not None
        connections = psutil.Process(self._detector.pid).net_connections("tcp")
        mine = [one for one in connections if one.laddr.port == self._detector_port]
        return any(one.status == psutil.CONN_ESTABLISHED for one in mine)

    def _start_run(self, detector: str) -> None:
        path = self.folder / "workflow.toml"
        path.write_text(tomli_w.dumps(self._load.workflow(detector=detector)))
        words = [sys.executable, "-m", "beamcast", "run", str(path), "--site", self._site, "--quiet"]
        words.append("--no-check")  # the processors misbehave on purpose
        words += ["--run-dir", str(self.run_dir), "--name", f"chaos-{os.getpid()}"]
        for setting in self._site_settings:
            words += ["--set-site", setting]
        self._run = self._start(words, "run.log")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start(
        self, words: Sequence[str], log: str, *, stdin: int = subprocess.DEVNULL
    ) -> "subprocess.Popen[bytes]":
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
        for process in (self._run, self._client, self._detector):
            if process is not None:
                _end_process(process)
        for left in self.processes():
            with suppress(psutil.NoSuchProcess):  # it has ended since
                left.kill()

    def _says(self, log: str, words: str) -> Callable[[], bool]:
        return lambda: words in (self.folder / log).read_text(errors="replace")

    # -- what happens ----------------------------------------------------------------------------------------------

    @property
    def arrivals(self) -> list[Arrival]:
        """What clients have received so far, the PV's first values included."""
        return [arrival for path in self._arrivals for arrival in read_arrivals(path)]

    @property
    def results(self) -> list[Arrival]:
        """The results that the client has received so far."""
        return results_of(self.arrivals)

    def wait_for_results(self, count: int, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until so many results have come; RuntimeError when they don't."""
        self._wait_until(lambda: len(self.results) >= count, f"{count} results have come", timeout_s)

    def take(self, frames: int, *, again: bool = False) -> None:
        """Let the detector take so many frames, beginning again with id 1 on request. Does not wait for them."""
        assert self._detector is not None
        assert self._detector.stdin is not None
        self._detector.stdin.write(f"{'again ' if again else ''}{frames}\n".encode())
        self._detector.stdin.flush()
        self._to_take += 1

    def wait_until_taken(self, *, timeout_s: float) -> None:
        """Wait until the detector has taken what it was told to take."""
        log = self.folder / "detector.log"
        self._wait_until(
            lambda: log.read_text().count("sent") == self._to_take, "all frames are taken", timeout_s
        )

    def finish(self, *, timeout_s: float) -> int:
        """Wait for the last frame, end the run as Ctrl-C does, and let the client write its last lines; returns the
        run's exit status."""
        assert self._run is not None
        assert self._client is not None
        assert self._client.stdin is not None
        self.wait_until_taken(timeout_s=timeout_s)
        self._run.send_signal(signal.SIGINT)
        try:
            status = self._run.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the run does not end:\n{self._log_tail()}") from None
        self._client.stdin.close()
        self._client.wait(STOP_TIMEOUT_S)
        return status

    def command(self, *words: str, timeout_s: float) -> str:
        """Give a command to the run, as a user does; returns what it says. RuntimeError when it fails."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EPICS_")}
        done = subprocess.run(
            self._inside([sys.executable, "-m", "beamcast", *words]),
            capture_output=True,
            text=True,
            timeout=timeout_s + STOP_TIMEOUT_S,
            check=False,
            env={**inherited, "PYTHONPATH": str(SOURCE_TREE)},
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr[-1000:]}")
        return done.stdout

    def resume(self) -> None:
        """Go on with the run, whose controller was killed, and have a new client receive."""
        assert self._run is not None
        assert self._client is not None
        self._run.wait(STOP_TIMEOUT_S)
        join = self.run_dir / "join.json"
        before = join.stat().st_mtime_ns
        words = [sys.executable, "-m", "beamcast", "resume", str(self.run_dir), "--quiet"]
        self._run = self._start(words, "resume.log")
        self._wait_until(
            lambda: join.exists() and join.stat().st_mtime_ns != before, "the run goes on", START_TIMEOUT_S
        )
        _end_process(self._client)
        self._arrivals.append(self.folder / f"arrivals-{len(self._arrivals)}.txt")
        self._start_client()

    @property
    def controller(self) -> psutil.Process:
        """The process of the run itself."""
        assert self._run is not None
        # The process in front passes signals on, and has no other child.
        (controller,) = psutil.Process(self._run.pid).children()
        return controller

    def report(self) -> dict[str, Any]:
        """The final report."""
        report: dict[str, Any] = json.loads((self.run_dir / "report.json").read_text())
        return report

    def _wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            ended = self._run.poll() if self._run is not None else None
            if ended is not None or time.monotonic() > deadline:
                raise RuntimeError(f"not so: {what} (run: {ended}):\n{self._log_tail()}")
            time.sleep(0.05)

    def _log_tail(self) -> str:
        logs = [*self.folder.glob("*.log"), self.run_dir / "logs" / "controller.log"]
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
        """The process of a rank, not its understudy, which is younger; RuntimeError when it has none just now."""
        found = self.processes("beamcast.members.rank", f"--pool={pool} ", f"--rank={rank} ")
        if not found:
            raise RuntimeError(f"rank {pool}/{rank} has no process")
        return found[0]

    def ranks(self, pool: str) -> list[psutil.Process]:
        """The processes of a pool's ranks, without understudies."""
        oldest: dict[str, psutil.Process] = {}
        for process in self.processes("beamcast.members.rank", f"--pool={pool} "):
            (rank,) = [word for word in process.info["cmdline"] if word.startswith("--rank=")]
            oldest.setdefault(rank, process)
        return list(oldest.values())

    def managers(self) -> list[psutil.Process]:
        """Parsl's managers, one for each node of an allocation, and what they have started."""
        found = self.processes("beamcast.members.workers.pool")
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


def _end_process(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()
