"""From submission to ready on a Slurm, against a bare Parsl task on the same one, in the same run.

    python bench/submit.py [--rounds 3]        needs root and the Slurm lab (tests/system/install-debian.sh)

A round is one of each, one after the other, so that whatever else the machine does meets all. "bare" is a Parsl
HighThroughputExecutor with Parsl's defaults on one node, and a task that does nothing; "bare, prompt" asks for its
block at once, where Parsl waits for its strategy's first period (5 s). Ours is the first-light example: two consumers
and a collector, each with a monitor that has received an update. All are counted from before Parsl is imported, and how
long that took is printed. The bare tasks have one worker, ours three.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "system"), str(ROOT / "src")]

from priorities import as_users_have_them  # noqa: E402
from slurm.lab import SlurmLab  # noqa: E402 - the path has to be set first
from slurm.site import write_site  # noqa: E402

EXAMPLE = ROOT / "examples" / "first-light" / "workflow.toml"
TIMEOUT_S = 180.0
COLUMNS = ("bare", "bare, prompt", "of it importing", "submit_to_ready", "of it queued")
HEAD = f"{'round':>8}" + "".join(f"{column:>16}" for column in COLUMNS)
BARE = """
import sys, time
began = time.monotonic()
import parsl
from parsl.executors import HighThroughputExecutor
from parsl.launchers import SrunLauncher
from parsl.providers import SlurmProvider
imported = time.monotonic()
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
    print(time.monotonic() - began, imported - began, flush=True)
"""


def environment(lab: SlurmLab) -> dict[str, str]:
    """The lab's login node; Parsl finds its own programs beside the interpreter."""
    own = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, **lab.environment, "PATH": own, "PYTHONPATH": str(ROOT / "src")}


def bare(lab: SlurmLab, folder: Path, *, period_s: float) -> tuple[float, float]:
    """Seconds of a Parsl task that does nothing, and how many of them went into importing Parsl."""
    words = [sys.executable, "-c", BARE, lab.host_address, str(period_s), str(folder / "parsl")]
    done = subprocess.run(
        words, cwd=folder, env=environment(lab), capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    lab.wait_no_jobs()
    whole_s, import_s = map(float, done.stdout.split()[-2:])
    return whole_s, import_s


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
    as_users_have_them()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    rows: list[tuple[float, ...]] = []
    with tempfile.TemporaryDirectory(prefix="beamcast-bench-") as name, SlurmLab(Path(name) / "lab") as lab:
        print(HEAD)
        for number in range(1, rounds + 1):
            folder = Path(name) / str(number)
            folder.mkdir()
            timing = ours(lab, folder)
            slow_s, _ = bare(lab, folder, period_s=5.0)
            prompt_s, import_s = bare(lab, folder, period_s=0.2)
            rows.append((slow_s, prompt_s, import_s, timing["submit_to_ready"], timing["queued"]))
            print(line(str(number), rows[-1]), flush=True)
    medians = tuple(statistics.median(column) for column in zip(*rows, strict=True))
    slow_s, prompt_s, import_s, ready_s, _ = medians
    print(line("median", medians) + "  (seconds)")
    print(f"submit_to_ready - bare, prompt = {ready_s - prompt_s:+.2f} s (to be below 3); "
          f"{ready_s - prompt_s + import_s:+.2f} s if only ours imports Parsl; - bare = {ready_s - slow_s:+.2f} s; "
          f"{time.strftime('%Y-%m-%d')}, load {os.getloadavg()[0]:.1f}")  # fmt: skip


def line(name: str, seconds: Sequence[float]) -> str:
    """One row of the table."""
    return f"{name:>8}" + "".join(f"{each:>16.2f}" for each in seconds)


if __name__ == "__main__":
    main()
