"""Reading results of a real run: `beamcast get` and `watch`, the Python interface, and every command of the page."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from launching import run_command, site_here, start_run
from requirements import REPOSITORY

from beamcast.pva.environment import free_port

pytestmark = [pytest.mark.system, pytest.mark.timeout(180), pytest.mark.xdist_group("read-results")]

FIRST_PORT = 47000
PAGE = (REPOSITORY / "docs" / "how-to" / "read-results.md").read_text()
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("EPICS_PVA")},
    "PYTHONPATH": str(REPOSITORY / "src"),
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}


@dataclass(frozen=True)
class Stream:
    """A run that streams 20 results a second, for as long as the tests here need it."""

    folder: Path
    pv: str
    server: str

    @property
    def run(self) -> str:
        return str(self.folder / "run")


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stream]:
    folder = tmp_path_factory.mktemp("read results")
    (folder / "site.toml").write_text(site_here(FIRST_PORT))
    name = f"read{os.getpid()}"
    settings = [
        f"source.channel={name}:image",
        f"results.channel={name}:result",
        "source.simulate.frames=20000",
    ]
    settings += ['source.simulate.rate="20 Hz"', "source.simulate.shape=[32,32]"]
    process = start_run(run_command(folder, folder / "site.toml", name, settings), folder, {})
    try:
        deadline = time.monotonic() + 90
        state = folder / "run" / "state.json"
        while not (state.exists() and json.loads(state.read_text())["frames"]["collected"] > 20):
            assert process.poll() is None, process.communicate()[0][-3000:]
            assert time.monotonic() < deadline, state.read_text()
            time.sleep(0.1)
        server = json.loads((folder / "run" / "join.json").read_text())["name_server"]
        yield Stream(folder, f"{name}:result", server)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def run(words: list[str], *, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(words, capture_output=True, text=True, timeout=90, env=ENVIRONMENT, cwd=cwd)


def beamcast(*words: str) -> "subprocess.CompletedProcess[str]":
    return run([sys.executable, "-m", "beamcast", *words])


def test_get_prints_the_present_result_of_a_run_and_of_a_pv(stream: Stream) -> None:
    of_run = beamcast("get", stream.run)
    assert of_run.returncode == 0, of_run.stderr
    assert re.fullmatch(rf"{stream.pv}  id \d+  20\S+ \S+  total .*\n", of_run.stdout)
    of_pv = beamcast("get", stream.pv, "--server", stream.server, "--json")
    assert of_pv.returncode == 0, of_pv.stderr
    shown = json.loads(of_pv.stdout)
    assert shown["pv"] == stream.pv
    assert shown["id"] > 0
    assert abs(shown["time"] - time.time()) < 60
    assert shown["value"]["total"] > 0


def test_watch_shows_each_result_once(stream: Stream) -> None:
    """I2, P10: the queue does not lose; told by ids."""
    done = beamcast("watch", stream.run, "--results", "40", "--json")
    assert done.returncode == 0, done.stderr
    ids = [json.loads(line)["id"] for line in done.stdout.splitlines()]
    assert ids == list(range(ids[0], ids[0] + 40))
    assert done.stderr == "40 results\n"


def test_control_c_ends_watch_with_what_it_saw(stream: Stream) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "beamcast", "watch", stream.run],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert err == f"{1 + len(out.splitlines())} results\n"


def test_watch_ends_quietly_when_its_reader_does(stream: Stream) -> None:
    words = f"{sys.executable} -m beamcast watch '{stream.run}' | head -1"
    done = run(["bash", "-o", "pipefail", "-c", words])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_a_pv_that_goes_away_is_told(tmp_path: Path) -> None:
    port, pv = free_port(48000, 48999, "127.0.0.1", prefer=os.getpid() % 1000), f"away{os.getpid()}:image"
    beside = [sys.executable, "-m", "beamcast"]
    detector = [*beside, "sim", pv, "--rate=20", "--shape=8x8", f"--port={port}"]
    source = subprocess.Popen(detector, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    words = [*beside, "watch", pv, "--server", f"127.0.0.1:{port}", "--idle", "6"]
    watch = subprocess.Popen(
        words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert watch.stdout is not None
    try:
        watch.stdout.readline()
    finally:
        source.kill()
        source.wait()
    out, err = watch.communicate(timeout=60)
    assert f"{pv} is away; it is waited for" in err
    assert err.splitlines()[-1] == f"{1 + len(out.splitlines())} results"
    assert watch.returncode == 0


def test_what_is_not_there_is_told(stream: Stream, tmp_path: Path) -> None:
    away = beamcast("get", "nobody:serves:this", "--server", stream.server, "--timeout", "2")
    assert away.returncode == 1
    assert "the PV nobody:serves:this did not answer within 2 s" in away.stderr
    wrong = beamcast("watch", "no/such/run")
    assert wrong.returncode == 2
    assert "neither the directory of a run nor the name of a PV" in wrong.stderr
    (tmp_path / "report.json").write_text("{}")
    ended = beamcast("get", str(tmp_path))
    assert ended.returncode == 2
    assert "has ended" in ended.stderr
    server = beamcast("get", "a:pv", "--server", "nonsense")
    assert server.returncode == 2
    assert all("Traceback" not in each.stderr for each in (away, wrong, ended, server))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def here(text: str, stream: Stream) -> str:
    """The example with this run's PV and name server."""
    return text.replace("beamcast:first-light:result", stream.pv).replace("127.0.0.1:20000", stream.server)


@pytest.fixture
def started_here(stream: Stream, tmp_path: Path) -> Path:
    """A folder in which the run is called demo."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(stream.run)
    return tmp_path


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_the_python_examples_of_the_page_run(stream: Stream, started_here: Path, number: int) -> None:
    code = here(blocks("python")[number], stream)
    done = run([sys.executable, "-u", "-c", code], cwd=started_here)
    assert done.returncode == 0, done.stderr
    ids = [int(line.split()[0]) for line in done.stdout.splitlines()]
    assert ids == list(range(ids[0], ids[0] + 5))


@pytest.mark.parametrize("number", range(len(blocks("sh"))))
def test_the_shell_examples_of_the_page_run(stream: Stream, started_here: Path, number: int) -> None:
    script = here(blocks("sh")[number], stream).replace("watch demo\n", "watch demo --results 3\n")
    done = run(["bash", "-e", "-c", script], cwd=started_here)
    assert done.returncode == 0, done.stderr
    assert stream.pv in done.stdout
    assert "total" in done.stdout
