"""All ids that were lost or are missing, in a file of the run directory: a report keeps the first thousand ranges.

A line for each entry of the report, with tabs between: what happened, pool, rank ("-" where unclear), how many, and the
ranges as `beamcast.core.ids.parse_ranges` reads them.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from beamcast.core.ids import format_ranges, format_run
from beamcast.core.keyset import Gap
from beamcast.core.ledger import Ledger

MISSING_FILE = "missing.tsv"
HEAD = "what\tpool\trank\tcount\tids"
# Not sent by the source, as somebody saw who watched it; and where nobody did.
WATCHED, UNWATCHED = "not sent", "not watched"


def write_missing(run_dir: Path, ledger: Ledger) -> str:
    """Write the file and return its name; without one, and an empty name, where nothing is missing. OSError where the
    disk refuses."""
    lines = [*_lines(ledger)]
    if not lines:
        return ""
    path = run_dir / MISSING_FILE
    path.write_text("\n".join([HEAD, *lines]) + "\n", encoding="utf-8")
    return MISSING_FILE


def _lines(ledger: Ledger) -> Iterator[str]:
    for lost in ledger.missing():
        rank = "-" if lost.rank is None else str(lost.rank)
        ids = format_ranges(lost.keys)
        yield "\t".join((f"lost at {lost.hop}", lost.pool or "-", rank, str(len(lost.keys)), ids))
    gaps = [*ledger.skipped()]
    for word, wanted in ((UNWATCHED, False), (WATCHED, True)):
        yield from _gap_line(word, (gap for gap, watched in gaps if watched is wanted))


def _gap_line(word: str, gaps: Iterable[Gap]) -> Iterator[str]:
    found = [*gaps]
    if found:
        count = sum(gap.last - gap.first + 1 for gap in found)
        ids = ",".join(format_run(gap.first, gap.last) for gap in found)
        yield "\t".join((word, "-", "-", str(count), ids))
