"""What `beamcast mirror` forwards, as a ratio to a bare `PvaMirrorServer`, in one run.

As in `throughput.py`: the source offers more than can pass, both mirrors take turns, each in a fresh process with a
fresh receiver behind it, and ratios are made within a round. The receiver is the bare loop in every case.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from priorities import as_users_have_them
from source import CHANNEL
from subjects import HERE, Case
from throughput import burst, describe_machine, evaluate, source_process, stop, wait_for

from beamcast.pva.environment import client_environment, free_port, server_environment

MIRRORED = "bench:mirrored"
CASES = [
    Case("512x512 uint8", 512, rate_hz=8_000, queue=200),
    Case("4096x4096 uint8", 4096, rate_hz=200, queue=20),
]
# In the words of PvaPy's own mirror command.
BARE = """
import sys, time, pvaccess
server = pvaccess.PvaMirrorServer()
server.start()
server.addMirrorRecord(sys.argv[1], sys.argv[2], pvaccess.PVA, int(sys.argv[3]))
while not server.hasRecord(sys.argv[1]): time.sleep(0.01)
print("mirroring", flush=True)
while True: time.sleep(1)
"""

Command = Callable[[Case, int, int], tuple[list[str], dict[str, str]]]


def bare(case: Case, source: int, own: int) -> tuple[list[str], dict[str, str]]:
    """PvaPy's mirror server and nothing else."""
    environment = server_environment(address="127.0.0.1", port=own, name_servers=[f"127.0.0.1:{source}"])
    return [sys.executable, "-c", BARE, MIRRORED, CHANNEL, str(case.queue)], environment


def ours(case: Case, source: int, own: int) -> tuple[list[str], dict[str, str]]:
    """`beamcast mirror`."""
    words = [
        "mirror",
        "--source",
        CHANNEL,
        "--channel",
        MIRRORED,
        "--queue",
        str(case.queue),
        "--port",
        str(own),
    ]
    return [sys.executable, "-m", "beamcast", *words, "--source-server", f"127.0.0.1:{source}"], {}


SUBJECTS: dict[str, Command] = {"PvaMirrorServer": bare, "beamcast mirror": ours}


def main() -> None:
    """Run all cases; prints one line for each and writes the rows."""
    as_users_have_them()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "mirror.json")
    options = parser.parse_args()
    rows = [row for case in CASES for row in run_case(case, options.rounds)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(
        json.dumps({**describe_machine(), "rounds": options.rounds, "rows": rows}, indent=2) + "\n"
    )


def run_case(case: Case, rounds: int) -> list[dict[str, Any]]:
    """Both mirrors in turns; one row for each."""
    rates: dict[str, list[float]] = {name: [] for name in SUBJECTS}
    with source_process(case) as (source, port):
        for number in range(rounds):
            # Who comes second may find the machine warmer, or its caches fuller: each is second as often as the other.
            for name in list(SUBJECTS)[:: 1 if number % 2 == 0 else -1]:
                rates[name].append(measure(case, name, source, port))
    return [row(case, name, rates) for name in SUBJECTS]


def row(case: Case, name: str, rates: dict[str, list[float]]) -> dict[str, Any]:
    """Medians over the rounds, and the ratio within each."""
    pairs = [own / other for own, other in zip(rates[name], rates["PvaMirrorServer"], strict=True)]
    ratio = statistics.median(pairs)
    frames_per_s = statistics.median(rates[name])
    print(
        f"{case.name:16} {name:16} {frames_per_s:8.0f} frames/s  {ratio:5.2f} of PvaMirrorServer "
        f"({min(pairs):.2f} to {max(pairs):.2f})",
        flush=True,
    )
    return {
        "case": case.name,
        "subject": name,
        "frames_per_s": round(frames_per_s, 1),
        "ratio": round(ratio, 3),
        "pairs": [round(pair, 3) for pair in pairs],
    }


def measure(case: Case, name: str, source: "subprocess.Popen[str]", source_port: int) -> float:
    """Frames per second through one fresh mirror into one fresh receiver."""
    own = free_port(21000, 21999, "127.0.0.1", prefer=int(time.monotonic() * 10) % 900)
    command, environment = SUBJECTS[name](case, source_port, own)
    with tempfile.TemporaryDirectory(prefix="beamcast-bench-") as text:
        folder = Path(text)
        mirror = start(command, environment, folder / "mirror.log")
        try:
            wait_for_text(folder / "mirror.log", "mirroring", mirror)
            words = ["--source-port", str(own), "--queue", str(case.queue), "--channel", MIRRORED]
            environment = client_environment([f"127.0.0.1:{own}"]) | {"BEAMCAST_BENCH_OUT": str(folder)}
            receiver = start([sys.executable, str(HERE / "bare.py"), *words], environment, folder / "log")
            try:
                wait_for(folder / "ready", receiver)
                sent = burst(source)
                wait_for(folder / "result.json", receiver)
            finally:
                stop(receiver)
        finally:
            stop(mirror)
        result = json.loads((folder / "result.json").read_text())
    return evaluate(case, result["ids"], result["times_s"], sent)["frames_per_s"]


def start(command: list[str], environment: dict[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """A process without the caller's EPICS settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EPICS_")}
    with log.open("wb") as output:
        return subprocess.Popen(
            command, env={**inherited, **environment}, stdin=subprocess.PIPE, stdout=output, stderr=output
        )


def wait_for_text(log: Path, text: str, process: "subprocess.Popen[Any]") -> None:
    """Wait until a process has printed something; RuntimeError when it ends, or does not within 30 s."""
    deadline_s = time.monotonic() + 30
    while text not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise RuntimeError(f"no {text!r} from {process.args}: {log.read_text()[-2000:]}")
        time.sleep(0.01)


if __name__ == "__main__":
    main()
