"""How many frames per second one receiver process takes, as a ratio to the least a Python client can do.

Choice: overload, not a search for the highest rate without loss. The source offers somewhat more than the
bare loop can take, for a fixed time; what counts is how many *distinct* frames came during that time, told
by their ids, and how many did not. A search needs many more runs, and one hiccup of a shared machine moves
its answer by a whole step; the overloaded rate is a mean over thousands of frames. It follows that ``lost``
is the excess the source offered: it says how far below the offer a subject stays, not that it loses frames
at rates it can carry. Where nothing is lost the source was the slowest (small frames on few cores: both ends
share them), the row says so, and its ratio compares little.

Subjects take turns (A B C, B C A, …), each in a fresh process, so that slow changes of the machine hit all
alike; ratios are made within a round, and medians over rounds are reported. The clock starts `WARM_UP_S`
after a subject's first frame. The queue on the server and in the receiver has the same length for all.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from priorities import as_users_have_them
from subjects import HERE, SUBJECTS, Case

from beamcast.pva.environment import free_port

WARM_UP_S = 0.2
# Offers lie above what two cores of 2020 carry; on a faster machine raise them until every subject loses.
CASES = [
    Case("128x128 uint8", 128, rate_hz=30_000, queue=1000),
    Case("512x512 uint8", 512, rate_hz=12_000, queue=200),
    # 16 MiB a frame: the receiver's queue alone may hold 320 MiB.
    Case("4096x4096 uint8", 4096, rate_hz=300, queue=20),
]
_PATIENCE_S = 30.0


def main() -> None:
    """Run all cases and write the results; prints one line per case and subject."""
    as_users_have_them()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "latest.json")
    options = parser.parse_args()
    rows = [row for case in CASES for row in run_case(case, options.rounds)]
    report = {**describe_machine(), "rounds": options.rounds, "rows": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    for row in rows:
        print(
            f"{row['case']:16} {row['subject']:20} {row['frames_per_s']:9.0f} frames/s "
            f"{row['bytes_per_s'] / 1e9:6.2f} GB/s  {row['ratio_to_bare']:5.2f} of bare  "
            f"lost {row['lost']} of {row['sent']}, limited by the {row['limited_by']}"
        )


def run_case(case: Case, rounds: int) -> list[dict[str, Any]]:
    """Measure every subject ``rounds`` times in turns; one row each."""
    samples: dict[str, list[dict[str, float]]] = {}
    with source_process(case) as (source, port):
        names = list(SUBJECTS)
        for number in range(rounds):
            # Who goes first finds the machine as nobody has left it: each does as often as the others.
            first = number % len(names)
            for name in names[first:] + names[:first]:
                samples.setdefault(name, []).append(measure(case, name, source, port))
    return [summarise(case, name, samples[name], samples["bare"]) for name in SUBJECTS]


def summarise(
    case: Case, name: str, taken: list[dict[str, float]], bare: list[dict[str, float]]
) -> dict[str, Any]:
    """Medians over rounds; the ratio is made round by round before its median is taken."""
    rates = [sample["frames_per_s"] for sample in taken]
    ratios = [mine / other["frames_per_s"] for mine, other in zip(rates, bare, strict=True)]
    frames_per_s = statistics.median(rates)
    return {
        "case": case.name,
        "subject": name,
        "offered_per_s": case.rate_hz,
        "frames_per_s": round(frames_per_s, 1),
        "bytes_per_s": round(frames_per_s * case.frame_bytes),
        "lost": round(statistics.median(sample["lost"] for sample in taken)),
        "sent": round(statistics.median(sample["sent"] for sample in taken)),
        "limited_by": limited_by(taken),
        "ratio_to_bare": round(statistics.median(ratios), 3),
        "rounds_frames_per_s": [round(rate, 1) for rate in rates],
    }


def limited_by(taken: list[dict[str, float]]) -> str:
    """Who was the slowest: without losses it is the source, and the subject could take more."""
    lost_part = statistics.median(sample["lost"] / sample["sent"] for sample in taken)
    return "receiver" if lost_part > 0.01 else "source"


def measure(case: Case, name: str, source: "subprocess.Popen[str]", source_port: int) -> dict[str, float]:
    """One burst into one fresh receiver."""
    with tempfile.TemporaryDirectory(prefix="beamcast-bench-") as text:
        folder = Path(text)
        launch = SUBJECTS[name](case, source_port, free_port(42000, 42999, "127.0.0.1"), folder)
        with (folder / "log").open("w") as log:
            receiver = subprocess.Popen(
                launch.command, env=launch.environment, stdin=subprocess.PIPE, stdout=log, stderr=log
            )
            try:
                wait_for(folder / "ready", receiver)
                sent = burst(source)
                wait_for(folder / "result.json", receiver)
            finally:
                stop(receiver)
        result = json.loads((folder / "result.json").read_text())
    return evaluate(case, result["ids"], result["times_s"], sent)


def evaluate(case: Case, ids: list[int], times_s: list[float], sent: int) -> dict[str, float]:
    """Distinct ids per second from the warm-up to the end of the offer, and how many of all never came."""
    begin_s, end_s = times_s[0] + WARM_UP_S, times_s[0] + case.seconds
    counted = {i for i, at_s in zip(ids, times_s, strict=True) if begin_s <= at_s < end_s}
    return {"frames_per_s": len(counted) / (end_s - begin_s), "lost": sent - len(set(ids)), "sent": sent}


def burst(source: "subprocess.Popen[str]") -> int:
    """Let the source send its frames; returns how many it sent."""
    assert source.stdin is not None
    assert source.stdout is not None
    source.stdin.write("go\n")
    source.stdin.flush()
    return int(source.stdout.readline().split()[1])


@contextmanager
def source_process(case: Case) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A running source of this case and its port."""
    port = free_port(42000, 42999, "127.0.0.1")
    command = [sys.executable, str(HERE / "source.py"), "--port", str(port), "--size", str(case.size)]
    command += ["--rate-hz", str(case.rate_hz), "--frames", str(round(case.rate_hz * case.seconds))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as source:
        try:
            if source.stdout is None or source.stdout.readline() != "ready\n":
                raise RuntimeError("the source did not start")
            yield source, port
        finally:
            stop(source)


def wait_for(path: Path, process: "subprocess.Popen[Any]") -> None:
    """Wait until the receiver has written ``path``; says what it printed if it ends or takes too long."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline_s:
            log = (path.parent / "log").read_text()[-2000:]
            raise RuntimeError(f"{process.args} did not write {path.name} (exit {process.poll()}):\n{log}")
        time.sleep(0.01)


def stop(process: "subprocess.Popen[Any]") -> None:
    """End a process we started: ask, then kill."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def describe_machine() -> dict[str, Any]:
    """Where and with what this was measured."""
    names = ["pvapy", "numpy"]
    return {
        "machine": {"cpu": _cpu_model(), "cpus": os.cpu_count(), "system": platform.platform()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
