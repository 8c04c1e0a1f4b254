"""`make endings`: runs that are started and ended by a stranger at a real terminal, at random moments.

    python -m endings [--times N] [--seed N] [--site SITE]

Prints one line for each; the exit status is 1 when one did not end in time, told nothing, or left something behind.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from endings.closed_streams import CLOSED, run_with_closed_streams
from endings.terminal import Terminal
from endings.trial import WAYS, Outcome, command, end_it, environment, random_moment
from endings.workflow import write_workflow


def main() -> int:
    """One start after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=30, help="how many starts at a terminal")
    parser.add_argument(
        "--seed", type=int, default=None, help="of the random moments; absent: another one each time"
    )
    parser.add_argument("--site", action="append", default=[], help="sites to take in turns")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(10**6)
    sites = arguments.site or ["local", "local-mpi"]
    print(f"seed {seed}", flush=True)
    print(
        f"{'':>3} {'site':9} {'after':>6} {'way':22} {'ended in':>9} {'status':>6}  {'report':10} problems",
        flush=True,
    )
    chance = random.Random(seed)
    outcomes = [_one(number, sites[number % len(sites)], chance) for number in range(1, arguments.times + 1)]
    outcomes += [run_with_closed_streams(name, show=_show) for name in CLOSED]
    bad = sum(bool(outcome.problems) for outcome in outcomes)
    slowest = max((outcome.seconds or 0.0) for outcome in outcomes)
    print(f"{len(outcomes)} starts, {bad} with problems, the slowest end took {slowest:.1f} s")
    return int(bad > 0)


def _one(number: int, site: str, chance: random.Random) -> Outcome:
    folder = Path(tempfile.mkdtemp(prefix="endings-"))
    way, after_s = chance.choice(WAYS), random_moment(chance)
    outcome = Outcome(number, site, f"{after_s:.1f} s", way.name)
    write_workflow(folder, prefix=f"endings{number}")
    words = command("run", "workflow.toml", "--site", site, "--run-dir", "run", "--name", "ending")
    try:
        with Terminal(words, folder=folder, environment=environment(folder)) as terminal:
            time.sleep(after_s)
            end_it(terminal, way, outcome, folder=folder, run_dir=folder / "run")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _show(outcome)
    return outcome


def _show(outcome: Outcome) -> None:
    seconds = "never" if outcome.seconds is None else f"{outcome.seconds:.1f} s"
    print(
        f"{outcome.number:>3} {outcome.what:9} {outcome.at:>6} {outcome.way:22} {seconds:>9} "
        f"{outcome.status!s:>6}  {outcome.report:10} {'; '.join(outcome.problems)}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
