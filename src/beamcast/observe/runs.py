"""The runs of a folder as a table: what each of them is doing, or what it was worth. Pure."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from beamcast.observe.layout import Column, table_of
from beamcast.observe.ranks import COLORS
from beamcast.observe.report import Part, Report
from beamcast.observe.verdict import verdict_of


class RunEntry(Part, frozen=True, kw_only=True):
    """One run. `began`: ISO 8601 with a time zone. `frames`, `lost`: None where nobody has written them down; the
    frames on their way of a run that goes on are not lost. `verdict`: of an ended run, else what became of it."""

    run: str
    folder: str
    state: str
    began: str
    frames: int | None = None
    lost: int | None = None
    verdict: str = ""


def entry_of(report: Report, *, folder: str, began: str) -> RunEntry:
    """The entry of a run with a report, final or not."""
    verdict = verdict_of(report)
    return RunEntry(
        run=report.run,
        folder=folder,
        state=report.state,
        began=report.began or began,
        frames=report.frames.source,
        lost=None if verdict is None else report.frames.lost,
        verdict="" if verdict is None else verdict.line,
    )


def runs_table(entries: Sequence[RunEntry], *, width: int, dates: Sequence[str]) -> Table:
    """A line for each run. `dates`: when each began, as whoever reads it wants it."""

    def number(value: int | None) -> Text:
        return Text("" if value is None else str(value))

    columns = [
        Column("run", [Text(one.run) for one in entries]),
        Column("state", [Text(one.state, style=COLORS.get(one.state, "cyan")) for one in entries]),
        Column("began", [Text(date) for date in dates], leave=1),
        Column("frames", [number(one.frames) for one in entries], right=True, leave=2),
        Column(
            "lost",
            [Text("" if not one.lost else str(one.lost), style="red") for one in entries],
            right=True,
            leave=3,
        ),
        Column("verdict", [Text(one.verdict) for one in entries], shrinks=True),
    ]
    return table_of(columns, width)
