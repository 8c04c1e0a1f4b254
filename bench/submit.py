"""From submission to ready on a Slurm, against a bare Parsl task on the same one, in the same run.

    python bench/submit.py [--rounds 3]        needs root and the Slurm lab (tests/system/install-debian.sh)

A round is one of each, one after the other, so that whatever else the machine does meets all. "bare" is a Parsl
HighThroughputExecutor with Parsl's defaults on one node, and a task that does nothing; "bare, prompt" asks for its
block at once, where Parsl waits for its strategy's first period (5 s). Ours is the first-light example: two consumers
and a collector, each with a monitor that has received an update. The bare tasks are counted from when Parsl has been
imported and have one worker; ours from when the plan is made, so that the import of Parsl counts, and with three.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "system"), str(ROOT / "src")]

from slurm.lab import SlurmLab  # noqa: E402 - the path has to be set first
from slurm.site import write_site  # noqa: E402

EXAMPLE = ROOT / "examples" / "first-light" / "workflow.toml"
TIMEOUT_S = 180.0
BARE = """
import sys, time
import parsl
from parsl.executors import HighThroughputExecutor
from parsl.launchers import SrunLauncher
from parsl.providers import SlurmProvider
began = time.monotonic()
provider = SlurmProvider(partition="debug", nodes_per_block=1, init_blocks=1, max_blocks=1, walltime="00:05:00",
                         exclusive=True, launcher=SrunLauncher())
executor = HighThroughputExecutor(label="bare", address=sys.argv[1], provider=provider, encrypted=True,
                                  max_workers_per_node=1, cores_per_worker=1e-6)
config = parsl.Config(executors=[executor], strategy="none", strategy_period=float(sys.argv[2]), run_dir=sys.argv[3],
                      initialize_logging=False, usage_tracking=0)
with parsl.load(config):
    @parsl.python_app
    def nothing():
        return 1
    assert nothing().result(120) == 1
    print(time.monotonic() - began, flush=True)
"""


def environment(lab: SlurmLab) -> dict[str, str]:
    """The lab's login node; Parsl finds its own programs beside the interpreter."""
    own = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, **lab.environment, "PATH": own, "PYTHONPATH": str(ROOT / "src")}


def bare(lab: SlurmLab, folder: Path, *, period_s: float) -> float:
    """Seconds of a Parsl task that does nothing."""
    words = [sys.executable, "-c", BARE, lab.host_address, str(period_s), str(folder / "parsl")]
    done = subprocess.run(
        words, cwd=folder, env=environment(lab), capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    lab.wait_no_jobs()
    return float(done.stdout.split()[-1])


def ours(lab: SlurmLab, folder: Path) -> dict[str, float]:
    """The durations in the report of a short run."""
    site = write_site(lab, folder, mode="workers", nodes=1, ranks_per_node=4)
    words = [
        sys.executable,
        "-m",
        "beamcast",
        "run",
        str(EXAMPLE),
        f"--site={site}",
        "--quiet",
        "--name=bench",
    ]
    words += [f"--run-dir={folder / 'run'}", "--set=source.simulate.frames=10"]
    subprocess.run(
        words, cwd=folder, env=environment(lab), capture_output=True, timeout=TIMEOUT_S, check=True
    )
    lab.wait_no_jobs()
    timing: dict[str, float] = json.loads((folder / "run" / "report.json").read_text())["timing_s"]
    return timing


def main() -> None:
    """Print each round, then the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    rows: list[tuple[float, float, float, float]] = []
    with tempfile.TemporaryDirectory(prefix="beamcast-bench-") as name, SlurmLab(Path(name) / "lab") as lab:
        print(f"{'round':>8} {'bare':>8} {'bare, prompt':>13} {'submit_to_ready':>16} {'of it queued':>13}")
        for number in range(1, rounds + 1):
            folder = Path(name) / str(number)
            folder.mkdir()
            timing = ours(lab, folder)
            row = (
                bare(lab, folder, period_s=5.0),
                bare(lab, folder, period_s=0.2),
                timing["submit_to_ready"],
                timing["queued"],
            )
            rows.append(row)
            print(f"{number:>8} {row[0]:>8.2f} {row[1]:>13.2f} {row[2]:>16.2f} {row[3]:>13.2f}", flush=True)
    bare_s, prompt_s, ready_s, queued_s = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"{'median':>8} {bare_s:>8.2f} {prompt_s:>13.2f} {ready_s:>16.2f} {queued_s:>13.2f}  (seconds)")
    print(f"submit_to_ready - bare = {ready_s - bare_s:+.2f} s; - bare, prompt = {ready_s - prompt_s:+.2f} s "
          f"(to be below 3); {time.strftime('%Y-%m-%d')}, load {os.getloadavg()[0]:.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
