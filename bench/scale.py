"""One controller and thousands of ranks: time to ready, and what heartbeats cost the controller.

    python bench/scale.py [--ranks 4096] [--processes 4] [--seconds 20]

The run is a real one, from `beamcast run` with the executor `external`, over a simulated detector; only the ranks are
thin (`scale_clients.py`). Every frame is accounted for in the end: the run must say `lost: 0`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from priorities import as_users_have_them

HERE = Path(__file__).parent
RATE_HZ = 200
SETTLE_S = 5.0

WORKFLOW = """
name = "scale"
prefix = "{prefix}"

[source]
channel = "{prefix}:image"

[source.simulate]
rate = "{rate} Hz"
frames = {frames}
shape = [8, 8]

[[pools]]
name = "work"
role = "consumer"
input = "source"
ranks = {ranks}

[[pools]]
name = "collect"
role = "collector"
input = "work"

[deadlines]
start = "20 min"
drain = "2 min"
silence = "30 s"
"""
SITE = """
extends = "local"
name = "scale"
executor = "external"
"""


def wait_for(condition: Any, *, seconds: float, process: "subprocess.Popen[bytes]", what: str) -> None:
    """Wait until `condition()`; SystemExit when the run ends before, or time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            raise SystemExit(f"the run ended with status {process.returncode} before {what}")
        if time.monotonic() > deadline:
            raise SystemExit(f"no {what} within {seconds:g} s")
        time.sleep(0.1)


def state_of(run_dir: Path) -> str:
    """The state that the controller has logged last."""
    log = run_dir / "logs" / "controller.log"
    text = log.read_text() if log.exists() else ""
    return max(("starting", "ready", "streaming", "draining"), key=lambda state: text.rfind(f"is {state}"))


def cpu_seconds(controller: psutil.Process) -> tuple[float, float]:
    """What the main thread has used, and all others: those answer heartbeats, the main one works by the clock."""
    threads = {thread.id: thread.user_time + thread.system_time for thread in controller.threads()}
    main = threads.pop(controller.pid)
    return main, sum(threads.values())


def measure(controller: psutil.Process, seconds: float) -> tuple[float, float, range]:
    """Cores of the controller's main thread and of its others, over some seconds, and which those were."""
    before, began = cpu_seconds(controller), time.monotonic()
    time.sleep(seconds)
    after, wall = cpu_seconds(controller), time.monotonic() - began
    main, others = ((late - early) / wall for late, early in zip(after, before, strict=True))
    return main, others, range(int(began) + 1, int(began + wall))


def run(folder: Path, *, ranks: int, processes: int, seconds: float) -> dict[str, Any]:
    """One run; the figures."""
    frames = int(RATE_HZ * (seconds + 3 * SETTLE_S))
    run_dir = folder / "run"
    (folder / "workflow.toml").write_text(
        WORKFLOW.format(prefix=f"scale{ranks}", rate=RATE_HZ, frames=frames, ranks=ranks - 1)
    )
    (folder / "site.toml").write_text(SITE)
    words = [sys.executable, "-m", "beamcast", "run", str(folder / "workflow.toml"), "--quiet"]
    words += ["--site", str(folder / "site.toml"), "--run-dir", str(run_dir)]
    clients: list[subprocess.Popen[bytes]] = []
    process = subprocess.Popen(words)
    try:
        wait_for((run_dir / "start.sh").exists, seconds=60, process=process, what="start script")
        controller = psutil.Process(process.pid)
        began, cpu = time.monotonic(), controller.cpu_times()
        share = -(-(ranks - 1) // processes)
        for number in range(processes):
            first, last = number * share, min((number + 1) * share, ranks - 1)
            numbers = [str(first), str(last), str(ranks - 1), str(RATE_HZ), str(frames)]
            out = str(folder / f"clients-{number}.json")
            clients.append(
                subprocess.Popen(
                    [sys.executable, str(HERE / "scale_clients.py"), str(run_dir), *numbers, out]
                )
            )
        wait_for(
            lambda: state_of(run_dir) == "streaming" or any(client.poll() for client in clients),
            seconds=900,
            process=process,
            what="stream",
        )
        if any(client.poll() for client in clients):
            raise SystemExit("a process of thin ranks ended before its time")
        ready_s, after = time.monotonic() - began, controller.cpu_times()
        time.sleep(SETTLE_S)
        main_cores, answering, window = measure(controller, seconds)
        process.wait(300)
        for client in clients:
            client.wait(60)
        report = json.loads((run_dir / "report.json").read_text())
        facts = [json.loads((folder / f"clients-{number}.json").read_text()) for number in range(processes)]
    finally:
        for child in [*clients, process]:
            if child.poll() is None:
                child.kill()
                child.wait()
    heard = sum(fact["beats"].get(str(second), 0) for fact in facts for second in window) / len(window)
    return {
        "ranks": ranks,
        "ready_s": round(ready_s, 2),
        "registered_s": round(max(fact["registered_s"] for fact in facts), 2),
        "controller_cpu_to_ready_s": round(after.user + after.system - cpu.user - cpu.system, 2),
        "heartbeats_per_s": round(heard),
        "controller_cores": round(main_cores + answering, 3),
        "of_them_by_the_clock": round(main_cores, 3),
        "us_per_heartbeat": round(answering / heard * 1e6),
        # The thin ranks share the machine with the controller and may be late: what as many as there are would cost.
        "controller_cores_at_1_hz": round(main_cores + answering * ranks / heard, 3),
        "latest_heartbeat_s": round(max(fact["latest_s"] for fact in facts), 2),
        "state": report["state"],
        "frames": report["frames"]["source"],
        "lost": report["frames"]["lost"],
    }


def main() -> None:
    """Print one line of figures."""
    as_users_have_them()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=4096)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="beamcast-scale-") as folder:
        figures = run(
            Path(folder), ranks=arguments.ranks, processes=arguments.processes, seconds=arguments.seconds
        )
    print(json.dumps(figures))
    print(
        f"{figures['ranks']} ranks: ready {figures['ready_s']} s after the first of them was started; measured at "
        f"{figures['heartbeats_per_s']} heartbeats/s, {figures['controller_cores']} cores: "
        f"{figures['us_per_heartbeat']} us for each, and {figures['of_them_by_the_clock']} cores by the clock; at 1 Hz "
        f"each {figures['controller_cores_at_1_hz']} cores; load {os.getloadavg()[0]:.1f}"
    )
    if figures["state"] != "done" or figures["lost"] or figures["controller_cores_at_1_hz"] >= 1.0:
        raise SystemExit("not as it must be: done, lost 0, less than one core")


if __name__ == "__main__":
    main()
