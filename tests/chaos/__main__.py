"""`make chaos`: real runs on Parsl, hurt in every way that we promise to survive.

    python -m chaos [--only WORDS] [--minutes N]

Prints one table; the exit status is 1 when a verdict is not "good".
"""

import argparse
import sys
import time
from pathlib import Path

from chaos.scenario import play
from chaos.scenarios import suite
from chaos.table import table


def main() -> int:
    """Play the scenarios one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="scenarios whose name has these words")
    parser.add_argument("--minutes", type=float, default=0.5, help="how long processes are killed at random")
    parser.add_argument(
        "--keep", type=Path, help="keep what the runs wrote, in a new folder for each scenario"
    )
    arguments = parser.parse_args()
    chosen = [
        scenario
        for scenario in suite(minutes=arguments.minutes)
        if not arguments.only or any(words in scenario.name for words in arguments.only)
    ]
    rows = []
    for scenario in chosen:
        absent = scenario.absent()
        if absent is not None:
            print(f"left out: {scenario.name}: {absent}", flush=True)
            continue
        began = time.monotonic()
        rows.append(play(scenario, folder=_kept(arguments.keep, scenario.name)))
        print(f"{scenario.name}: {rows[-1].verdict} ({time.monotonic() - began:.0f} s)", flush=True)
    print()
    print("\n".join(table(rows)))
    return int(any(row.problems for row in rows))


def _kept(keep: Path | None, name: str) -> Path | None:
    if keep is None:
        return None
    folder = keep.absolute() / name.replace(" ", "-")
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
