"""Six metadata channels that are updated with every frame: the sustained rate of N processes, and the cost of one.

Subjects: `pvapy-hpc-consumer`, one process for each of N, with a processor written to PvaPy's documentation (a queue
for each channel, timestamps compared, attributes appended), made patient: it waits for an update that is on its way.
And a run of beamcast with N ranks, the same source behind its mirror, values stamped as attributes. Both publish every
frame; in both the processor compares each value with the frame's id, which the source put into it.

Sustained is the highest rate of a ladder (each rung a tenth faster) at which the source sends for some seconds and at
least 99 % of the frames come through with all six values, none wrong, the last one within half a second of being sent
(what only waits in a queue is not sustained), and the source keeps to it. A rung may be tried twice, since this machine
has hiccups; two rungs failed end the ladder. What comes through in one burst that is faster than anybody says nothing.
Before that, as many frames as the queues of all ranks hold go through: a server keeps what it has sent until its ring
of updates has gone round, so memory is fresh, and dear, for that long. Subjects take turns.
The cost is CPU time (all threads) of a process for each frame that it processed, at a fixed rate for each process, so
that the source is N times as fast. All on one machine: everybody, source included, shares its cores, so that what a
subject can sustain follows from the CPU time of all its processes together; `cpu_us_by_role` says where it goes.

Whether that is fair, and what was asked: "sustained" is the rate that comes through whole, as asked. The source is the
same program for both, but not the same load: it serves each metadata channel to each of PvaPy's processes (6 N
monitors), and once to beamcast. PvaPy reads it directly; beamcast's frames pass through a mirror first, as in every
run, and cross a socket twice, which counts against it the more the larger they are (`--size`). No consumer can change
what the source spends: with all else for nothing the ratio would be `limit`, PvaPy's sum over beamcast's source. The
third subject takes each frame from the source once, and each update once, and throws them away: nobody who has to bring
them together can be faster on the same machine.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from associate import METADATA, STEP
from priorities import as_users_have_them

HERE = Path(__file__).resolve().parent
PROCESSORS = HERE / "associate.py"
CHANNEL = "benchmd:image"
LOWEST_HZ, HIGHEST_HZ, RUNG = 700.0, 20_000.0, 1.1
RUNG_S = 3.0
LATEST_S = 0.5
VERBOSE = "BEAMCAST_BENCH_VERBOSE" in os.environ
QUEUE_FRAMES = 1000  # of each rank, at the server and at the receiver
FILL_HZ = 300
COST_HZ = 50
PORTS = (56200, 56899)


def serve(port: int, size: int) -> None:
    """The source process: for each line "step rate frames" one burst; answers "step began", in wall clock seconds."""
    from beamcast.pva.environment import apply_environment, check_bound, server_environment

    apply_environment(server_environment(address="127.0.0.1", port=port))
    import numpy as np
    import pvaccess

    from beamcast.pva.ndarray import make_ndarray, set_header
    from beamcast.sim.metadata import SimulatedMetadata
    from beamcast.sim.pacing import Pacer

    server = pvaccess.PvaServer()
    pv = make_ndarray(np.zeros((size, size), dtype=np.uint8), frame_id=0, timestamp_s=time.time())
    metadata = SimulatedMetadata(METADATA, server)
    metadata.serve(0, time.time_ns())
    server.addRecord(CHANNEL, pv.copy())
    server.start()
    check_bound([port])
    print("ready", flush=True)
    for line in sys.stdin:
        step, rate_hz, frames = (int(word) for word in line.split())
        pacer, began_s = Pacer(float(rate_hz)), time.time()
        for index in range(1, frames + 1):
            pacer.wait(lambda: False)
            frame_id, now_ns = step * STEP + index, time.time_ns()
            metadata.publish(frame_id, now_ns)
            set_header(pv, frame_id=frame_id, timestamp_ns=now_ns)
            server.updateUnchecked(CHANNEL, pv)
        print(f"{step} {began_s}", flush=True)


@contextmanager
def source(size: int) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """The source process and its port."""
    from beamcast.pva.environment import free_port

    port = free_port(*PORTS, "127.0.0.1", prefer=os.getpid() % 500)
    command = [sys.executable, str(Path(__file__).resolve()), "--serve", str(port), "--size", str(size)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("the source did not start")
            yield process, port
        finally:
            _end([process])


@contextmanager
def pvapy(count: int, port: int, folder: Path) -> Iterator[None]:
    """N consumers of PvaPy with the data distributor."""
    from beamcast.pva.environment import free_port, server_environment

    processes = []
    for number in range(count):
        own = free_port(*PORTS, "127.0.0.1", prefer=(os.getpid() + 20 + 7 * number) % 500)
        served = server_environment(address="127.0.0.1", port=own, name_servers=[f"127.0.0.1:{port}"])
        command = [shutil.which("pvapy-hpc-consumer") or "pvapy-hpc-consumer", "-dc", "-id", str(number + 1)]
        command += [
            "-ic",
            CHANNEL,
            "-oc",
            f"benchmd:out{number}",
            "-of",
            "uniqueId",
            "-dg",
            "bench",
            "-du",
            "1",
        ]
        command += [
            "-dt",
            "uniqueId",
            "-sqs",
            str(QUEUE_FRAMES),
            "-rqs",
            str(QUEUE_FRAMES),
            "-siu",
            "0",
            "-rs",
            "none",
        ]
        command += ["-pf", str(PROCESSORS), "-pc", "PvapyAssociate"]
        command += ["-mc", ",".join(f"pva://{name}" for name in METADATA)]
        environment = {**_inherited(), **served, "BEAMCAST_BENCH_OUT": str(folder)}
        log = (folder / f"pvapy{number}.log").open("w")
        processes.append(
            subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log)
        )
        log.close()
    try:
        yield
    finally:
        _end(processes)


WORKFLOW = """
name = "benchmd"
prefix = "benchmd:run"
[deadlines]
drain = "3 s"
silence = "20 s"
[source]
channel = "{channel}"
address = "127.0.0.1:{port}"
[[pools]]
name = "associate"
role = "consumer"
input = "source"
ranks = {count}
server_queue = {queue}
receiver_queue = {queue}
processor = "associate.py:Associate"
"""
TABLE = """
[[metadata]]
name = "m{number}"
channel = "{channel}"
address = "127.0.0.1:{port}"
tolerance = "10 us"
stamp = true
"""
SITE = """
name = "bench"
run_root = "runs"
[provider]
kind = "local"
[start]
mode = "workers"
[allocation]
nodes = 1
walltime = "20 min"
[network]
beamline = { interfaces = ["lo"] }
cluster = { interfaces = ["lo"] }
nodes = { interfaces = ["lo"] }
ports = { first = 56900, last = 57800 }
"""


@contextmanager
def beamcast(count: int, port: int, folder: Path) -> Iterator[None]:
    """A whole run: controller, mirror, metadata member, N ranks through Parsl."""
    text = WORKFLOW.format(channel=CHANNEL, port=port, count=count, queue=QUEUE_FRAMES)
    text += "".join(
        TABLE.format(number=number, channel=name, port=port) for number, name in enumerate(METADATA)
    )
    (folder / "workflow.toml").write_text(text)
    (folder / "site.toml").write_text(SITE)
    shutil.copy(PROCESSORS, folder)
    command = [sys.executable, "-m", "beamcast", "run", str(folder / "workflow.toml"), "--name", "bench"]
    command += ["--site", str(folder / "site.toml"), "--run-dir", str(folder / "run"), "--quiet"]
    environment = {**_inherited(), "BEAMCAST_BENCH_OUT": str(folder)}
    with (folder / "run.log").open("w") as log:
        run = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield
    finally:
        run.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            run.wait(25)
        _end([run])


@contextmanager
def unjoined(count: int, port: int, folder: Path) -> Iterator[None]:
    """N processes that each take their share of the frames, one that takes all metadata, and nobody joins them."""
    from beamcast.pva.environment import client_environment

    named = client_environment([f"127.0.0.1:{port}"])
    environment = {**_inherited(), **named, "BEAMCAST_BENCH_OUT": str(folder)}
    duties = [[CHANNEL, str(number), str(QUEUE_FRAMES)] for number in range(count)]
    processes = []
    for duty in (*duties, ["metadata", str(QUEUE_FRAMES)]):
        with (folder / f"unjoined{len(processes)}.log").open("w") as log:
            command = [sys.executable, str(PROCESSORS), *duty]
            processes.append(
                subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )
    try:
        yield
    finally:
        _end(processes)


UNJOINED = "delivered, not joined"
SUBJECTS = {"pvapy-hpc-consumer": pvapy, "beamcast": beamcast, UNJOINED: unjoined}


def burst(process: "subprocess.Popen[str]", step: int, rate_hz: int, frames: int) -> float:
    """Let the source send; returns when it began, in seconds of the wall clock."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{step} {rate_hz} {frames}\n")
    process.stdin.flush()
    return float(process.stdout.readline().split()[1])


def results(folder: Path, step: int) -> list[list[float]]:
    """[frames, associated, wrong, first and last CPU time, end] of a burst, for each process that took part."""
    parts = [json.loads(path.read_text()) for path in folder.glob("[0-9]*.json")]
    return [part[str(step)] for part in parts if str(step) in part]


def settled(folder: Path, step: int, frames: int) -> list[list[float]]:
    """The results when all frames are in, or nothing has changed for a while."""
    last, since = -1.0, time.monotonic()
    while True:
        time.sleep(0.25)
        found = results(folder, step)
        total = sum(part[0] for part in found)
        if total != last:
            last, since = total, time.monotonic()
        if total >= frames or time.monotonic() - since > 2.0:
            return found


def warm_up(process: "subprocess.Popen[str]", folder: Path, count: int) -> None:
    """Slow frames until every process has had some."""
    deadline = time.monotonic() + 60
    for step in range(500, 900):
        burst(process, step, 40, 2 * count)
        time.sleep(0.3)
        if len({path.name for path in folder.glob("[0-9]*.json") if path.read_text() != "{}"}) == count:
            break
        if time.monotonic() > deadline:
            raise RuntimeError(f"not all of {count} processes receive; see {folder}")
    frames = QUEUE_FRAMES * count
    burst(process, step + 1, FILL_HZ, frames)
    settled(folder, step + 1, frames)


def sustained(process: "subprocess.Popen[str]", folder: Path) -> dict[str, Any]:
    """The highest rung that was good, in frames per second, and where its processor time went."""
    best: dict[str, Any] = {"sustained_hz": 0, "cpu_us_by_role": {}}
    failed, step, rate_hz = 0, 1000, LOWEST_HZ
    while failed < 2 and rate_hz < HIGHEST_HZ:
        for _ in range(2):
            step += 1
            found = rung(process, folder, step, round(rate_hz))
            if found["sustained_hz"]:
                best, failed = found, 0
                break
        else:
            failed += 1
        rate_hz *= RUNG
    return best


def rung(process: "subprocess.Popen[str]", folder: Path, step: int, rate_hz: int) -> dict[str, Any]:
    """One rate for some seconds. `sustained_hz` is what it really was, 0 where too much was lost, late or wrong."""
    frames = round(rate_hz * RUNG_S)
    before = spent_by_role(folder)
    began_s = burst(process, step, rate_hz, frames)
    sent_s = time.time()
    found = settled(folder, step, frames)
    after = spent_by_role(folder)
    processed, associated, wrong = (sum(part[i] for part in found) for i in range(3))
    late_s = max((part[5] for part in found), default=sent_s) - sent_s
    rate = round(frames / (sent_s - began_s))  # the source may be the one that can't
    good = associated >= 0.99 * frames and not wrong and late_s < LATEST_S and rate > 0.9 * rate_hz
    counts = {"sent": frames, "processed": processed, "associated": associated, "wrong": wrong}
    shares = {role: round((after[role] - before.get(role, 0.0)) / frames * 1e6) for role in after}
    found_out = {
        "sustained_hz": rate if good else 0,
        "late_s": round(late_s, 2),
        **counts,
        "cpu_us_by_role": shares,
    }
    if VERBOSE:
        print("   ", rate_hz, json.dumps(found_out), file=sys.stderr, flush=True)
    return found_out


def spent_by_role(folder: Path) -> dict[str, float]:
    """CPU seconds so far of all processes that a subject consists of, by what they are."""
    spent: dict[str, float] = {}
    mine = {child.pid for child in psutil.Process().children(recursive=True)}
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            role = _role(process.cmdline(), folder, mine=process.pid in mine)
            if role is not None:
                times = process.cpu_times()
                spent[role] = spent.get(role, 0.0) + times.user + times.system
    return spent


def _role(command: list[str], folder: Path, *, mine: bool) -> str | None:
    """None for a process that is none of ours. Ranks are no descendants: their keeper lets them go."""
    ours = mine or any(str(folder) in word for word in command)
    for word in command if ours else ():
        if word.startswith("beamcast.members."):
            return command[command.index("--kind") + 1] if "--kind" in command else word.rpartition(".")[2]
        if word == "--serve":
            return "source"
        if word.endswith(("pvapy-hpc-consumer", PROCESSORS.name)):
            return "consumer"
    return "controller and Parsl" if ours else None


def cost(process: "subprocess.Popen[str]", folder: Path, count: int) -> float:
    """CPU seconds of a process for each frame that it processed, at the same rate for each process."""
    frames = round(COST_HZ * count * 4)
    burst(process, 2000, COST_HZ * count, frames)
    found = settled(folder, 2000, frames)
    return statistics.median((part[4] - part[3]) / max(part[0] - 1, 1) for part in found)


def measure(name: str, count: int, size: int) -> dict[str, Any]:
    """One subject with N processes, all fresh."""
    with tempfile.TemporaryDirectory(prefix="beamcast-bench-") as text, source(size) as (process, port):
        folder = Path(text)
        with SUBJECTS[name](count, port, folder):
            warm_up(process, folder, count)
            spent_us = round(cost(process, folder, count) * 1e6)
            head = {"subject": name, "processes": count, "size": size, "cpu_us_per_frame": spent_us}
            return {**head, **sustained(process, folder), "load_average": os.getloadavg()[0]}


def in_cpu(rows: list[dict[str, Any]], count: int) -> str:
    """CPU time of all processes for a frame, its ratio, and the ratio if all but the source cost beamcast nothing."""
    shares = {
        name: [row["cpu_us_by_role"] for row in rows if (row["subject"], row["processes"]) == (name, count)]
        for name in ("pvapy-hpc-consumer", "beamcast")
    }
    theirs, ours = (statistics.median(sum(each.values()) for each in taken) for taken in shares.values())
    source = statistics.median(each["source"] for each in shares["beamcast"])
    return (
        f"CPU {theirs:.0f} and {ours:.0f} µs a frame, ratio {theirs / ours:.1f}, limit {theirs / source:.1f}"
    )


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("EPICS_")}


def _end(processes: list[Any]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> None:
    """Measure and print; writes all numbers to --out."""
    as_users_have_them()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=512, help="rows and columns of a frame")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "metadata.json")
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve, options.size)
        return
    rows = []
    for _ in range(options.rounds):
        for count in options.ranks:
            for name in SUBJECTS:
                row = measure(name, count, options.size)
                rows.append(row)
                print(json.dumps(row), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rows, indent=1) + "\n")
    for count in options.ranks:
        rates = {
            name: [row["sustained_hz"] for row in rows if (row["subject"], row["processes"]) == (name, count)]
            for name in SUBJECTS
        }
        ratio = {
            name: statistics.median(
                rate / max(theirs, 1)
                for rate, theirs in zip(rates[name], rates["pvapy-hpc-consumer"], strict=True)
            )
            for name in ("beamcast", UNJOINED)
        }
        print(
            f"N = {count}: {rates}, ratio {ratio['beamcast']:.1f}, {UNJOINED} {ratio[UNJOINED]:.1f}; "
            f"{in_cpu(rows, count)}"
        )


if __name__ == "__main__":
    main()
