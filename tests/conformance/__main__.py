"""`make conformance`: NTNDArray as the world writes it, through real runs, to clients of either kind.

    python -m conformance [--only WORDS] [--server pvaccess|pvxs] [--keep FOLDER]

Each structure is served by a pvaccess and by a pvxs server; what comes out is compared bit by bit by the processor
(`frame.image`), by a pvaccess client (`beamcast.results`) and by one of pvxs (p4p). Prints one table; the exit status
is 1 when a row is not ok. pvxget and its sisters are made of the library that p4p uses; neither pip nor apt has them.
"""

import argparse
import sys
import tempfile
from itertools import groupby
from pathlib import Path

from conformance.trial import GOOD, Row, play
from conformance.variants import STRUCTURES

# Both kinds of delivery, one with each server.
DELIVERY = {"pvaccess": "at-most-once", "pvxs": "at-least-once"}
HEAD = ("structure", "variant", "server", "image", "pvaccess", "pvxs")


def table(rows: list[Row]) -> str:
    """The rows as text; those of one structure and server whose variants are all ok are one."""
    lines = [HEAD]
    for (structure, server), group in groupby(rows, key=lambda row: (row.structure, row.server)):
        of_both = list(group)
        for row in of_both if len(of_both) > 12 or not all(each.good for each in of_both) else of_both[:0]:
            lines.append((structure, row.variant, server, *(row.found[name] for name in HEAD[3:])))
        if len(lines) == 1 or lines[-1][0] != structure or lines[-1][2] != server:
            lines.append((structure, f"all {len(of_both)}", server, *[GOOD] * 3))
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def main() -> int:
    """Play everything, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", default=[], help="structures whose name has these words")
    parser.add_argument("--server", choices=tuple(DELIVERY))
    parser.add_argument("--keep", type=Path, help="keep what the runs wrote, in a folder for each")
    arguments = parser.parse_args()
    chosen = [
        one for one in STRUCTURES if not arguments.only or any(words in one.name for words in arguments.only)
    ]
    servers = [arguments.server] if arguments.server else list(DELIVERY)
    rows, failed = [], 0
    with tempfile.TemporaryDirectory() as temporary:
        for number, structure in enumerate(chosen):
            for server in servers:
                folder = (arguments.keep or Path(temporary)) / f"{number}-{server}"
                try:
                    made = play(structure, server=server, delivery=DELIVERY[server], folder=folder)
                except AssertionError as error:
                    failed += 1
                    print(f"{structure.name}, {server}: the run did not come to its end\n{error}", flush=True)
                    continue
                rows += made
                good = sum(row.good for row in made)
                print(f"{structure.name}, {server}: {good} of {len(made)} ok", flush=True)
    print()
    print(table(rows))
    bad = failed + sum(not row.good for row in rows)
    print(f"\n{len(rows)} rows, {bad} not ok" if bad else f"\n{len(rows)} rows, all ok")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
