"""Small frames: a pool that gets them in stacks beside PvaPy's consumer that gets them one by one.

All subjects get the frames of one lean source, note the ids and publish nothing, so that receiving alone is compared.
What counts is the fastest offer of which no frame is lost. beamcast's chain is a whole `beamcast run`: source,
dispatching mirror, one rank. PvaPy's consumer stands at the source itself in one case, with nothing between that would
shield the source or repeat a frame, and behind PvaPy's mirror server in the other, which is the same way as ours. On
two cores all processes of a chain share them; therefore the processor time of each stands beside the rates.
`frames_per_core` is what one core of the receiving process could take: it tells what a node of ranks takes from one
mirror where the source is not the limit.
"""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import tomli_w
from lean_source import CHANNEL
from subjects import HERE, Case, pvapy_consumer
from throughput import stop

from beamcast.pva.environment import free_port, server_environment

SIZE = 128
QUEUE = 2000
OFFER_HZ, SECONDS = 30_000.0, 3.0
# Where the search for what is kept begins, and when two offers are near enough.
LEAST_HZ, STEP = 4000.0, 1.2
MOST_TRIALS = 10
MIRRORED = "bench:mirrored"
WARM_UP_S = 0.3
START_TIMEOUT_S = 60.0
# With whom the others are compared, and what the ratio to each is called.
PEERS = ("pvapy-hpc-consumer at the source", "pvapy-mirror-server, pvapy-hpc-consumer")
WHERE = ("at_source", "mirrored")
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


def measure_pvapy(folder: Path, offer_hz: float) -> Sample:
    """PvaPy's consumer at the source."""
    with (
        lean_source(-1, offer_hz=offer_hz) as (source, port),
        pvapy_receiver(folder, CHANNEL, port) as receiver,
    ):
        return one_burst(source, {"receiver": receiver}, folder)


def measure_pvapy_mirrored(folder: Path, offer_hz: float) -> Sample:
    """PvaPy's mirror server, and its consumer behind that."""
    own = free_port(42000, 42999, "127.0.0.1", prefer=500)
    with lean_source(-1, offer_hz=offer_hz) as (source, port):
        served = server_environment(address="127.0.0.1", port=own, name_servers=[f"127.0.0.1:{port}"])
        command = [pvapy_command("pvapy-mirror-server"), "-cm", f"({MIRRORED},{CHANNEL},pva,{QUEUE})"]
        with process(command, served, folder / "mirror.log") as mirror:
            # Its channel is there when a first value has come: a client that asks before that asks again seconds later.
            wait_until_bound(own)
            with pvapy_receiver(folder, MIRRORED, own) as receiver:
                return one_burst(source, {"mirror": mirror, "receiver": receiver}, folder)


@contextmanager
def pvapy_receiver(folder: Path, channel: str, port: int) -> Iterator[psutil.Process]:
    """PvaPy's consumer that has received the first value of a channel."""
    case = Case("", SIZE, rate_hz=OFFER_HZ, queue=QUEUE)
    launch = pvapy_consumer(case, port, free_port(42000, 42999, "127.0.0.1"), folder)
    command = [channel if word == CHANNEL else word for word in launch.command]
    at = command.index("-oc")
    del command[at : at + 2]
    with process(command, launch.environment, folder / "log") as receiver:
        _wait(lambda: (folder / "ready").exists(), "PvaPy's consumer receives")
        yield receiver


@contextmanager
def process(command: Sequence[str], environment: dict[str, str], log: Path) -> Iterator[psutil.Process]:
    """A process without the caller's EPICS settings, ended with the block."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EPICS_")}
    with log.open("w") as output:
        started = subprocess.Popen(
            command, env={**inherited, **environment}, stdin=subprocess.PIPE, stdout=output, stderr=output
        )
    try:
        yield psutil.Process(started.pid)
    finally:
        stop(started)


def pvapy_command(name: str) -> str:
    """A command of the pvapy wheel."""
    return shutil.which(name) or str(Path(sys.executable).parent / name)


def wait_until_bound(port: int) -> None:
    """Wait until somebody listens on a port; without connecting to it."""
    _wait(
        lambda: any(
            one.laddr.port == port and one.status == psutil.CONN_LISTEN
            for one in psutil.net_connections("tcp")
        ),
        f"port {port} is served",
    )


def measure_beamcast(folder: Path, offer_hz: float, *, batch: int) -> Sample:
    """A run of one rank."""
    with lean_source(offer_hz=offer_hz) as (source, port):
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
                mirror, rank = (
                    _find(folder, "members.dispatcher.mirror"),
                    _find(folder, "members.rank", "--rank=0"),
                )
                return one_burst(source, {"mirror": mirror, "receiver": rank}, folder)
            finally:
                _end(run)


Measure = Callable[[Path, float], Sample]
SUBJECTS: dict[str, Measure] = {
    "pvapy-hpc-consumer at the source": measure_pvapy,
    "pvapy-mirror-server, pvapy-hpc-consumer": measure_pvapy_mirrored,
    "beamcast, batch 16": partial(measure_beamcast, batch=16),
    "beamcast, batch 1": partial(measure_beamcast, batch=1),
}


def stacked(rounds: int, subjects: Sequence[str] = tuple(SUBJECTS)) -> list[dict[str, Any]]:
    """All subjects in turn, `rounds` times; medians, ratios to the first two made round by round."""
    samples: dict[str, list[Sample]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name in subjects:
            samples[name].append(sustained(SUBJECTS[name]))
    return [
        _row(name, taken, [samples[peer] for peer in PEERS if peer in samples])
        for name, taken in samples.items()
    ]


def sustained(measure: Measure) -> Sample:
    """The fastest offer of which nothing is lost, to about a fifth: half way between one that was kept and one that was
    not, again and again. A source that offers more than it can send is as fast as it can be."""
    kept: Sample | None = None
    low_hz, high_hz, offer_hz = LEAST_HZ, OFFER_HZ, OFFER_HZ
    for _ in range(MOST_TRIALS):
        with tempfile.TemporaryDirectory(prefix="beamcast-bench-") as text:
            sample = measure(Path(text), offer_hz)
        print(
            f"  offered {sample['offered_hz']:.0f} Hz, lost {sample['lost']:.0f}", file=sys.stderr, flush=True
        )
        if sample["lost"]:
            high_hz = min(offer_hz, sample["offered_hz"])
        else:
            kept, low_hz = sample, offer_hz
        if kept is not None and high_hz / low_hz < STEP:
            return kept
        offer_hz = (low_hz * high_hz) ** 0.5
    raise RuntimeError(f"frames are lost even at {offer_hz:.0f} Hz")


def _row(name: str, taken: list[Sample], peers: list[list[Sample]]) -> dict[str, Any]:
    median = {key: statistics.median(sample[key] for sample in taken) for key in taken[0]}
    return {
        "what": f"small frames, {SIZE}x{SIZE}: {name}",
        **{key: round(value, 1) for key, value in median.items()},
        **{
            f"ratio_{where}": _ratio(taken, peer, "frames_per_s")
            for where, peer in zip(WHERE, peers, strict=False)
        },
        "frames_per_core": round(1e6 / median["receiver_us"]),
        # Per frame, the receiver costs so many times less than the first peer's.
        "ratio_per_core": _ratio(peers[0], taken, "receiver_us"),
    }


def _ratio(these: list[Sample], those: list[Sample], key: str) -> float:
    return round(
        statistics.median(mine[key] / other[key] for mine, other in zip(these, those, strict=True)), 2
    )


@contextmanager
def lean_source(
    value_id: int = 0, *, offer_hz: float = OFFER_HZ
) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A source that waits for "go", and its port."""
    port = free_port(42000, 42999, "127.0.0.1")
    command = [sys.executable, str(HERE / "lean_source.py"), "--port", str(port), "--size", str(SIZE)]
    command += ["--rate-hz", str(offer_hz), "--seconds", str(SECONDS)]
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
