"""Small frames: a pool that gets them in stacks beside PvaPy's consumer that gets them one by one.

All subjects get the frames of one lean source, note the ids and publish nothing, so that receiving alone is compared.
beamcast's chain is a whole `beamcast run`: source, dispatching mirror, one rank, with no frame lost. PvaPy's consumer
reads the source itself: there is nothing between that would repeat a frame. On two cores the source, the mirror and
the rank share what the source and the consumer share in PvaPy's case; therefore the processor time of each process
stands beside the rates. `frames per core` is what one core of the receiving process could take: it tells what a
node of ranks takes from one mirror where the source is not the limit.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import tomli_w
from lean_source import CHANNEL
from subjects import HERE, Case, pvapy_consumer
from throughput import stop, wait_for

from beamcast.pva.environment import free_port

SIZE = 128
QUEUE = 2000
OFFER_HZ, SECONDS = 30_000.0, 3.0
WARM_UP_S = 0.3
START_TIMEOUT_S = 60.0
# Two windows of 16 stacks: a rank acks each half.
WINDOW = 512

Sample = dict[str, float]


def workflow(folder: Path, *, port: int, batch: int) -> Path:
    """One pool of one rank; what it does with a frame is final."""
    path = folder / "workflow.toml"
    path.write_text(
        tomli_w.dumps(
            {
                "name": "stacks",
                "delivery": "at-least-once",
                "source": {"channel": CHANNEL, "address": f"127.0.0.1:{port}", "idle_timeout": "60 s"},
                "mirror": {"queue": QUEUE, "replay": "1 GiB"},
                "pools": [
                    {
                        "name": "work",
                        "role": "consumer",
                        "input": "source",
                        "batch": batch,
                        "window": WINDOW,
                        "server_queue": WINDOW,
                        "processor": f"{HERE / 'recorder.py'}:RecordingSink",
                    }
                ],
                "deadlines": {"start": "60 s", "drain": "30 s"},
            }
        )
    )
    return path


def processor_s(process: psutil.Process) -> float:
    """User and system time so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def evaluate(folder: Path, sent: int, offer_s: float, cpu_s: dict[str, float]) -> Sample:
    """Distinct frames per second while they were offered, how many never came, and µs of each process for each."""
    result = json.loads((folder / "result.json").read_text())
    ids, times_s = result["ids"], result["times_s"]
    first = times_s[0]
    begin_s, end_s = first + WARM_UP_S, first + offer_s
    counted = {i for i, at_s in zip(ids, times_s, strict=True) if begin_s <= at_s < end_s}
    came = len(set(ids))
    cost = {f"{name}_us": 1e6 * seconds / came for name, seconds in cpu_s.items()}
    return {
        "frames_per_s": len(counted) / (end_s - begin_s),
        "sent": sent,
        "lost": sent - came,
        "twice": len(ids) - came,
        "offered_hz": sent / offer_s,
        **cost,
    }


def one_burst(source: "subprocess.Popen[str]", who: dict[str, psutil.Process], folder: Path) -> Sample:
    """Let the source offer its frames, and wait until the end has arrived."""
    everyone = {**who, "source": psutil.Process(source.pid)}
    before = {name: processor_s(process) for name, process in everyone.items()}
    assert source.stdin is not None
    assert source.stdout is not None
    source.stdin.write("go\n")
    source.stdin.flush()
    _, sent, offer_s = source.stdout.readline().split()
    _wait(lambda: (folder / "result.json").exists(), "the last frame has come")
    spent = {name: processor_s(process) - before[name] for name, process in everyone.items()}
    return evaluate(folder, int(sent), float(offer_s), spent)


def measure_pvapy(folder: Path) -> Sample:
    """PvaPy's consumer at the source."""
    # To the recorder, an id below 0 says that the channel is there.
    with lean_source(-1) as (source, port):
        case = Case("", SIZE, rate_hz=OFFER_HZ, queue=QUEUE)
        launch = pvapy_consumer(case, port, free_port(42000, 42999, "127.0.0.1"), folder)
        command = list(launch.command)
        at = command.index("-oc")
        del command[at : at + 2]
        with (folder / "log").open("w") as log:
            receiver = subprocess.Popen(
                command, env=launch.environment, stdin=subprocess.PIPE, stdout=log, stderr=log
            )
            try:
                wait_for(folder / "ready", receiver)
                return one_burst(source, {"receiver": psutil.Process(receiver.pid)}, folder)
            finally:
                stop(receiver)


def measure_beamcast(folder: Path, *, batch: int) -> Sample:
    """A run of one rank."""
    with lean_source() as (source, port):
        path, run_dir = workflow(folder, port=port, batch=batch), folder / "run"
        command = [sys.executable, "-m", "beamcast", "run", str(path), "--site", "local", "--quiet"]
        command += ["--run-dir", str(run_dir), "--name", f"stacks-{os.getpid()}"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EPICS_")}
        environment = {**inherited, "BEAMCAST_BENCH_OUT": str(folder)}
        with (folder / "log").open("w") as log:
            run = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            try:
                _wait(
                    lambda: "is ready" in _text(run_dir / "logs" / "controller.log"), "the run is ready", run
                )
                # A rank may serve before the mirror is told that frames count: the order comes with a heartbeat.
                time.sleep(1.5)
                mirror, rank = _find(folder, "members.dispatching"), _find(folder, "members.rank", "--rank=0")
                return one_burst(source, {"mirror": mirror, "receiver": rank}, folder)
            finally:
                _end(run)


SUBJECTS: dict[str, Callable[[Path], Sample]] = {
    "pvapy-hpc-consumer": measure_pvapy,
    "beamcast, batch 16": lambda folder: measure_beamcast(folder, batch=16),
    "beamcast, batch 1": lambda folder: measure_beamcast(folder, batch=1),
}


def stacked(rounds: int, subjects: Sequence[str] = tuple(SUBJECTS)) -> list[dict[str, Any]]:
    """All subjects in turn, `rounds` times; medians, ratios made round by round."""
    samples: dict[str, list[Sample]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name in subjects:
            with tempfile.TemporaryDirectory(prefix="beamcast-bench-") as text:
                samples[name].append(SUBJECTS[name](Path(text)))
    return [_row(name, taken, samples[subjects[0]]) for name, taken in samples.items()]


def _row(name: str, taken: list[Sample], peers: list[Sample]) -> dict[str, Any]:
    median = {key: statistics.median(sample[key] for sample in taken) for key in taken[0]}
    ratio = statistics.median(
        mine["frames_per_s"] / peer["frames_per_s"] for mine, peer in zip(taken, peers, strict=True)
    )
    cost = statistics.median(
        peer["receiver_us"] / mine["receiver_us"] for mine, peer in zip(taken, peers, strict=True)
    )
    return {
        "what": f"small frames, {SIZE}x{SIZE}: {name}",
        **{key: round(value, 1) for key, value in median.items()},
        "ratio": round(ratio, 2),
        "frames_per_core": round(1e6 / median["receiver_us"]),
        "ratio_per_core": round(cost, 2),
        "limited_by": "receiver"
        if median["lost"] or median["frames_per_s"] < 0.98 * median["offered_hz"]
        else "source",
    }


@contextmanager
def lean_source(value_id: int = 0) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A source that waits for "go", and its port."""
    port = free_port(42000, 42999, "127.0.0.1")
    command = [sys.executable, str(HERE / "lean_source.py"), "--port", str(port), "--size", str(SIZE)]
    command += ["--rate-hz", str(OFFER_HZ), "--seconds", str(SECONDS)]
    command += ["--value-id", str(value_id)]
    source = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert source.stdout is not None
        if source.stdout.readline().strip() != "ready":
            raise RuntimeError("the source does not start")
        yield source, port
    finally:
        assert source.stdin is not None
        source.stdin.close()
        try:
            source.wait(5)
        except subprocess.TimeoutExpired:
            source.kill()
            source.wait()


def _find(folder: Path, *words: str) -> psutil.Process:
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if str(folder) in line and all(word in line for word in words):
            return process
    raise RuntimeError(f"no process with {words}")


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _wait(condition: Callable[[], bool], what: str, run: "subprocess.Popen[bytes] | None" = None) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline or (run is not None and run.poll() is not None):
            raise RuntimeError(f"not so: {what}")
        time.sleep(0.02)


def _end(run: "subprocess.Popen[bytes]") -> None:
    run.send_signal(signal.SIGINT)
    try:
        run.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
