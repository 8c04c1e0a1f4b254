"""Whole runs from the command line: what arrives, what a death costs, what bad input gets, what is left behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from launching import ordinary_user
from requirements import need
from sink import recorded_ids
from traces import marked, processes_of, words_of

WORKFLOW = """
name = "whole"
{top}
[source]
channel = "{prefix}:image"
appear_timeout = "4 s"
{source}
{simulate}
[[pools]]
name = "work"
role = "consumer"
input = "source"
ranks = 2
{pool}
[[pools]]
name = "collect"
role = "collector"
input = "work"

[results]
pool = "collect"
channel = "{prefix}:result"
"""
SIMULATE = """
[source.simulate]
frames = {frames}
rate = "{rate} Hz"
shape = [64, 64]
start_delay = "1.5 s"
"""


@dataclass
class Case:
    """A workflow in a folder of its own, and the ways to run it."""

    folder: Path
    prefix: str

    def write(
        self,
        *,
        frames: int = 600,
        rate: int = 300,
        pool: str = "",
        source: str = "",
        top: str = "",
        simulate: bool = True,
    ) -> None:
        text = WORKFLOW.format(
            prefix=self.prefix,
            top=top,
            source=source,
            pool=pool,
            simulate=SIMULATE.format(frames=frames, rate=rate) if simulate else "",
        )
        (self.folder / "workflow.toml").write_text(text)

    def command(self, *more: str, site: str = "local") -> list[str]:
        # The processors of these tests write down what they see; the check has tests of its own.
        words = [sys.executable, "-m", "beamcast", "run", "workflow.toml", "--site", site, "--no-check"]
        return [*words, "--name", "whole", "--run-dir", "run", *more]

    def start(self, *more: str, site: str = "local", environment: dict[str, str] | None = None) -> "Running":
        log = (self.folder / "run.log").open("w")
        process = subprocess.Popen(
            self.command(*more, site=site),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **marked(self.folder), **(environment or {})},
        )
        log.close()
        return Running(process, self)

    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.folder / "run" / "report.json").read_text())
        return report

    def logs(self) -> str:
        """The ends of all logs of the run, Parsl's too."""
        paths = sorted([*self.folder.glob("run/logs/*.log"), *self.folder.glob("run/parsl/**/*.log")])
        return "\n".join(f"--- {path.name}\n{path.read_text()[-1500:]}" for path in paths)

    def members(self) -> list[psutil.Process]:
        """Processes that work for the run, wherever they hang."""
        return processes_of(self.folder)

    def assert_nothing_left(self, *, within_s: float = 15) -> None:
        until(
            lambda: not self.members(), within_s, lambda: f"left: {[words_of(one) for one in self.members()]}"
        )


@dataclass
class Running:
    process: "subprocess.Popen[bytes]"
    case: Case

    @property
    def output(self) -> str:
        return (self.case.folder / "run.log").read_text()

    def wait_for(self, text: str, seconds: float = 60) -> None:
        def there() -> bool:
            assert self.process.poll() is None or text in self.output, self.output[-3000:]
            return text in self.output

        until(there, seconds, lambda: f"{text!r} did not come:\n{self.output[-3000:]}")

    def wait(self, seconds: float = 90) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s:\n{self.output[-3000:]}") from None

    def rank(self, pool: str, rank: int) -> psutil.Process:
        words = {"beamcast.members.rank", f"--pool={pool}", f"--rank={rank}"}
        found = [one for one in self.case.members() if words <= set(words_of(one))]
        return min(found, key=psutil.Process.create_time)  # a younger one is its understudy


def until(condition: Callable[[], bool], seconds: float, why: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    one = Case(tmp_path, f"run{os.getpid()}:{abs(hash(tmp_path.name)) % 10**6}")
    one.write()
    yield one
    for process in one.members():
        with contextlib.suppress(psutil.Error):
            process.kill()


def beamline_client(case: Case) -> contextlib.AbstractContextManager[Callable[[], list[int]]]:
    """A client of the result PV; the function that it gives ends it and returns the ids that it saw."""
    return recorded_ids(case.folder, f"{case.prefix}:result")


@pytest.mark.system
@pytest.mark.parametrize("site", ["local", "local-mpi"])
def test_every_frame_reaches_the_beamline_in_order(case: Case, site: str) -> None:
    if site == "local-mpi":
        need("mpi")
    with beamline_client(case) as ids:
        running = case.start(site=site)
        assert running.wait() == 0, running.output[-3000:]
        assert ids() == list(range(1, 601))
    report = case.report()
    assert report["state"] == "done"
    whole = dict.fromkeys(("source", "received", "processed", "collected"), 600)
    none = dict.fromkeys(("dropped", "failed", "lost", "duplicates"), 0)
    assert (whole | none).items() <= report["frames"].items()
    assert report["missing"] == []
    work = next(pool for pool in report["pools"] if pool["name"] == "work")
    assert [(rank["rank"], rank["slot"], rank["processed"]) for rank in work["ranks"]] == [
        (0, 0, 300),
        (1, 1, 300),
    ]
    durations = {"elapsed", "submit_to_ready", "queued", "ready_to_first_result", "streaming", "drain"}
    assert set(report["timing_s"]) == durations
    assert report["throughput"]["frames_per_s"] > 0
    assert report["throughput"]["bytes_per_s"] > 0
    assert "600" in running.output
    case.assert_nothing_left()


@pytest.mark.system
def test_a_frame_on_which_the_processor_raises_is_named_with_its_traceback(case: Case) -> None:
    (case.folder / "flaky.py").write_text(
        textwrap.dedent("""
        class Flaky:
            def process(self, frame):
                if frame.id == 100:
                    raise ValueError("no peak in this one")
                return frame.pv
        """)
    )
    case.write(frames=300, pool='processor = "flaky.py:Flaky"')
    running = case.start()
    assert running.wait() == 0, running.output[-3000:]
    report = case.report()
    assert report["frames"]["failed"] == 1
    assert report["frames"]["lost"] == 0
    assert report["frames"]["collected"] == 299
    (failed,) = report["failed_frames"]
    assert (failed["id"], failed["pool"]) == ("100", "work")
    assert "no peak in this one" in failed["error"]
    text = (case.folder / "run" / failed["traceback_file"]).read_text()
    assert "flaky.py" in text
    assert "ValueError: no peak in this one" in text


@pytest.mark.system
def test_a_rank_that_comes_late_joins_a_run_that_has_begun_without_it(case: Case) -> None:
    # As if its node came later than the other's: its interpreter waits before it does anything.
    (case.folder / "sitecustomize.py").write_text(
        textwrap.dedent("""
        import sys, time
        if "beamcast.members.rank" in sys.orig_argv and {"--pool=work", "--rank=1"} <= set(sys.orig_argv):
            time.sleep(6)
        """)
    )
    path = f"{case.folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    case.write(frames=4500, pool="min_ranks = 1", top='delivery = "at-least-once"')
    running = case.start(environment={"PYTHONPATH": path})
    assert running.wait() == 0, running.output[-3000:]
    report = case.report()
    assert (report["frames"]["collected"], report["frames"]["lost"]) == (4500, 0)
    first, late = (
        rank["processed"] for pool in report["pools"] if pool["name"] == "work" for rank in pool["ranks"]
    )
    # 300 frames/s: it misses some seconds, and then each takes its half.
    assert 100 < late < 0.8 * first


@pytest.mark.system
def test_a_killed_rank_is_seen_restarted_and_its_losses_named_exactly(case: Case) -> None:
    case.write(frames=100000, rate=300)
    with beamline_client(case) as ids:
        running = case.start()
        running.wait_for("is streaming")
        time.sleep(1.5)
        # A rank whose answer came too late registers once more.
        before = running.output.count("work/1 registers")
        killed = time.monotonic()
        running.rank("work", 1).kill()
        running.wait_for("work/1 died", 5)
        seen_after_s = time.monotonic() - killed
        until(lambda: running.output.count("work/1 registers") > before, 60, lambda: running.output[-3000:])
        away_s = time.monotonic() - killed
        time.sleep(5)
        running.process.send_signal(signal.SIGINT)
        status = running.wait()
        arrived = ids()
    report = case.report()
    source = report["frames"]["source"]
    lost = set(range(1, source + 1)) - set(arrived)
    named: set[int] = set()
    for missing in report["missing"]:
        for part in missing["ids"].split(","):
            first, _, last = part.partition("-")
            named |= set(range(int(first), int(last or first) + 1))
    assert seen_after_s < 5
    assert named == lost
    assert report["frames"]["lost"] == len(lost)
    assert status == (3 if lost else 0), running.output[-3000:]
    rank = report["pools"][0]["ranks"][1]
    assert rank["generation"] == 1
    assert len(rank["deaths"]) == 1
    assert len(arrived) == len(set(arrived))
    # It came back and did its share, half of the frames while it was there; it had 1.5 of 6.5 s before its death, and
    # may have taken a second to begin.
    assert rank["processed"] > 0.6 * (source - 300 * away_s) / 2


@pytest.mark.system
def test_ctrl_c_drains_and_leaves_nothing_behind(case: Case) -> None:
    case.write(frames=100000)
    running = case.start()
    running.wait_for("is streaming")
    time.sleep(1)
    running.process.send_signal(signal.SIGINT)
    assert running.wait(40) == 0, running.output[-3000:]
    report = case.report()
    assert report["state"] == "done"
    assert report["frames"]["lost"] == 0
    assert report["frames"]["source"] == report["frames"]["collected"] > 100
    case.assert_nothing_left()


@pytest.mark.system
def test_a_second_ctrl_c_ends_at_once(case: Case) -> None:
    case.write(frames=100000)
    running = case.start()
    running.wait_for("is streaming")
    running.process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    running.process.send_signal(signal.SIGINT)
    assert running.wait(30) in (0, 1), running.output[-3000:]
    case.assert_nothing_left()


@pytest.mark.system
def test_a_killed_controller_takes_everything_along(case: Case) -> None:
    case.write(frames=100000)
    running = case.start()
    running.wait_for("is streaming")
    running.process.kill()
    running.process.wait()
    own = {"beamcast.members.simulator", "beamcast.members.mirror"}
    until(
        lambda: not [one for one in case.members() if own & set(words_of(one))],
        5,
        lambda: "its own children live",
    )
    # Parsl's workers, and the ranks with them, notice by their heartbeats that nobody is there.
    case.assert_nothing_left(within_s=40)


@pytest.mark.system
def test_a_controller_killed_while_its_workers_come_takes_them_along(case: Case) -> None:
    case.write(frames=100000)
    running = case.start()

    def coming() -> bool:
        return any("beamcast.members.workers.pool" in words_of(one) for one in case.members())

    until(coming, 30, lambda: running.output[-3000:])
    running.process.kill()
    running.process.wait()
    # A pool that has not connected yet waits for ever; the process above it sees that nobody listens.
    case.assert_nothing_left(within_s=65)


@pytest.mark.system
def test_nothing_of_an_allocation_outlives_its_killed_parsl_manager(case: Case) -> None:
    case.write(frames=100000)
    running = case.start()
    running.wait_for("is streaming")
    before = case.members()
    kept = [one for one in before if "beamcast.members.workers.on_node" in words_of(one.parent())]
    (pool,) = [one for one in kept if "multiprocessing" not in " ".join(words_of(one))]
    of_pool = pool.children(recursive=True)
    assert any("multiprocessing" in " ".join(words_of(one)) for one in of_pool)
    running.process.kill()
    pool.kill()
    until(
        lambda: not [one for one in of_pool if one.is_running() and one.status() != psutil.STATUS_ZOMBIE],
        10,
        lambda: f"left: {[words_of(one) for one in of_pool if one.is_running()]}",
    )
    running.process.wait()
    case.assert_nothing_left()


@pytest.mark.system
def test_status_and_stop_from_another_shell(case: Case) -> None:
    case.write(frames=100000)
    running = case.start()
    running.wait_for("is streaming")

    def ask(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "beamcast", *words],
            cwd=case.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )

    status = ask("status", "run")
    assert status.returncode == 0, status.stderr
    assert "streaming" in status.stdout
    stopped = ask("stop", "run", "--wait")
    assert stopped.returncode == 0, stopped.stderr
    assert running.wait(40) == 0
    assert case.report()["frames"]["lost"] == 0
    shown = ask("report", "run")
    assert shown.returncode == 0
    assert "work/1" in shown.stdout


BAD_PROCESSOR = """
import os
class Raises:
    def __init__(self):
        raise RuntimeError("no such detector geometry")
    def process(self, frame):
        return frame.pv
class Dies:
    def __init__(self):
        os.abort()
    def process(self, frame):
        return frame.pv
"""


@pytest.mark.system
@pytest.mark.parametrize(
    ("settings", "options", "status", "pieces"),
    [
        pytest.param(
            {"pool": 'processor = "bad.py:Nope"'}, [], 2, ["bad.py:Nope", "Raises"], id="no-such-class"
        ),
        pytest.param(
            {"pool": 'processor = "bad.py:Raises"'}, [], 2, ["no such detector geometry"], id="constructor"
        ),
        pytest.param(
            {"pool": 'processor = "bad.py:Dies"\nrestart = { max_restarts = 1 }'},
            [],
            1,
            ["work/", "died"],
            id="dies-before-ready",
        ),
        pytest.param(
            {"source": 'id_field = "frameNumber"'}, [], 1, ["frameNumber", "uniqueId"], id="no-id-field"
        ),
        pytest.param({"simulate": False}, [], 1, ["did not appear within 4 s", ":image"], id="no-source"),
        pytest.param({"pool": 'processor = "absent.py:A"'}, [], 2, ["absent.py"], id="no-such-file"),
        pytest.param(
            {}, ["--set", "pools.collect.input=wrok"], 2, ["wrok", "work"], id="input-does-not-exist"
        ),
        pytest.param({}, ["--set", "pools.work.input=collect"], 2, ["collect", "work"], id="loop"),
        pytest.param({}, ["--set", "pools.work.ranks=0"], 2, ["pools[0].ranks", "0"], id="zero-ranks"),
        pytest.param({}, ["--set", "pools.work.ranks='two'"], 2, ["pools[0].ranks", "two"], id="wrong-type"),
        pytest.param({}, ["--set", "pools.work.rnaks=2"], 2, ["rnaks", "ranks"], id="misspelt-key"),
    ],
)
def test_bad_input_gets_one_clear_message(
    case: Case, settings: dict[str, Any], options: list[str], status: int, pieces: list[str]
) -> None:
    (case.folder / "bad.py").write_text(BAD_PROCESSOR)
    case.write(**settings)
    running = case.start("--quiet", *options)
    assert running.wait(80) == status, running.output[-3000:]
    for piece in pieces:
        assert piece in running.output
    assert "Traceback" not in running.output
    case.assert_nothing_left()


@pytest.mark.system
def test_a_missing_mpi_launcher_is_said_so(case: Case) -> None:
    running = case.start("--site-set", "start.launcher=mpiexec-of-nowhere", site="local-mpi")
    assert running.wait(60) == 2
    assert "mpiexec-of-nowhere" in running.output
    assert "Traceback" not in running.output
    case.assert_nothing_left()


@pytest.mark.system
def test_an_ordinary_user_in_a_path_with_spaces(tmp_path_factory: pytest.TempPathFactory) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user; as an ordinary user every test is this test")
    import pwd
    import shutil
    import tempfile

    nobody = pwd.getpwnam("nobody")
    folder = Path(tempfile.mkdtemp(prefix="beam line "))
    try:
        case = Case(folder, f"spaces{os.getpid()}")
        case.write(frames=200)
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        done = subprocess.run(
            [*ordinary_user(), *case.command("--quiet")],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=100,
            env={**os.environ, "HOME": str(folder), "USER": "nobody", "LOGNAME": "nobody"},
        )
        assert done.returncode == 0, done.stderr[-3000:] + case.logs()
        assert case.report()["frames"]["collected"] == 200
        assert (folder / "run" / "report.json").stat().st_uid == nobody.pw_uid
        case.assert_nothing_left()
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
def test_at_least_once_a_frame_that_the_collector_drops_is_final(case: Case) -> None:
    """It is not sent again and again for a result that never comes."""
    (case.folder / "even.py").write_text(
        "class Even:\n    def process(self, frame):\n        return None if frame.id % 2 else frame.image\n"
    )
    case.write(frames=600, rate=100, top='delivery = "at-least-once"')
    collect = "pools.collect.processor=even.py:Even"
    running = case.start("--set", "mirror.retire_timeout=2 s", "--set", collect)
    assert running.wait(90) == 0, running.output[-3000:]
    frames = case.report()["frames"]
    assert (frames["source"], frames["collected"], frames["dropped"], frames["lost"]) == (600, 300, 300, 0)
    assert frames["sent_again"] == 0
