"""The orbit demo: the ring's servers, the aggregator, and a `beamcast run` between them; then its report."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
RUN_DIR = Path("runs/orbit")


def start(*words: str) -> tuple["subprocess.Popen[str]", str]:
    """Start a part of the ring; the address that it serves at."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "ring.py"), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def end(process: "subprocess.Popen[str]") -> None:
    """Tell a part of the ring to end."""
    assert process.stdin is not None
    process.stdin.close()
    process.wait()


def is_ready() -> bool:
    """Whether the run has begun, as its log tells."""
    log = RUN_DIR / "logs" / "controller.log"
    return log.exists() and "run orbit is ready" in log.read_text()


def main(more: Sequence[str]) -> int:
    """Stream for 10 s, then stop the ring, which ends the run."""
    shutil.rmtree(RUN_DIR, ignore_errors=True)
    sectors, sectors_at = start("sectors")
    aggregator, ring_at = start("aggregator", sectors_at)
    words = [sys.executable, "-m", "beamcast", "run", str(HERE / "workflow.toml"), "--name", "orbit"]
    words += ["--run-dir", str(RUN_DIR), "--set", f'source.address="{ring_at}"', *more]
    run = subprocess.Popen(words)
    try:
        while run.poll() is None and not is_ready():
            time.sleep(0.1)
        time.sleep(10)
    finally:
        end(sectors)
        status = run.wait()
        end(aggregator)
    if not (RUN_DIR / "report.json").exists():
        return status or 1
    frames = json.loads((RUN_DIR / "report.json").read_text())["frames"]
    print(f"{frames['collected']} of {frames['source']} orbits collected, {frames['lost']} lost")
    return status


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
