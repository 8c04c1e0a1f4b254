"""The ranks of a run in so many lines: all of them, or each pool and the ranks that somebody should look at. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from beamcast.observe.layout import Column, table_of
from beamcast.observe.report import PoolReport, RankReport, Report

UP = frozenset({"ready", "connected", "registered", "running"})
COLORS = {
    "done": "green",
    "streaming": "green",
    "failed": "red",
    "cancelled": "yellow",
    "dead": "red",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a rank, or all ranks of a pool."""

    name: str
    host: str
    state: str
    processed: int
    dropped: int
    failed: int
    rate_hz: float
    queued: int
    deaths: int


def ranks_table(report: Report, *, width: int, lines: int | None) -> Table:
    """At most `lines` rows under the header (None: as many as there are ranks)."""
    rows, left_out = chosen_rows(report, lines=lines)
    if left_out:
        rows = [*rows, Row(f"… {left_out} more", "", "", 0, 0, 0, 0.0, 0, 0)]
    return table_of(_columns(rows, blank_last=bool(left_out)), width)


def chosen_rows(report: Report, *, lines: int | None) -> tuple[list[Row], int]:
    """The rows that are shown, and how many ranks have none."""
    ranks = [_of_rank(pool.name, rank) for pool in report.pools for rank in pool.ranks]
    if lines is None or len(ranks) <= lines:
        return ranks, 0
    pools = [_of_pool(pool) for pool in report.pools]
    shown_with_pool = {row.name for row in pools}
    rest = [row for row in ranks if row.name not in shown_with_pool]
    # Who is not at work, or has had trouble, is worth a line before others are.
    rest.sort(key=lambda row: (row.state in UP, not (row.failed or row.deaths)))
    room = max(lines - len(pools) - 1, 0)
    chosen = {row.name for row in rest[:room]}
    rows = [*pools, *(row for row in ranks if row.name in chosen)]
    return rows, len(rest) - len(chosen)


def _of_rank(pool: str, rank: RankReport) -> Row:
    return Row(
        name=f"{pool}/{rank.rank}",
        host=rank.host or "-",
        state=rank.state,
        processed=rank.processed,
        dropped=rank.dropped,
        failed=rank.failed,
        rate_hz=rank.rate_hz,
        queued=rank.queued,
        deaths=len(rank.deaths),
    )


def _of_pool(pool: PoolReport) -> Row:
    """All ranks of a pool; of a single rank, the rank."""
    if len(pool.ranks) == 1:
        return _of_rank(pool.name, pool.ranks[0])
    hosts = {rank.host for rank in pool.ranks if rank.host}
    up = sum(rank.state in UP for rank in pool.ranks)
    states = {rank.state for rank in pool.ranks}
    return Row(
        name=pool.name,
        host=hosts.pop() if len(hosts) == 1 else f"{len(hosts)} hosts" if hosts else "-",
        state=f"all {states.pop()}" if len(states) == 1 else f"{up}/{len(pool.ranks)} up",
        processed=sum(rank.processed for rank in pool.ranks),
        dropped=sum(rank.dropped for rank in pool.ranks),
        failed=sum(rank.failed for rank in pool.ranks),
        rate_hz=sum(rank.rate_hz for rank in pool.ranks),
        queued=sum(rank.queued for rank in pool.ranks),
        deaths=sum(len(rank.deaths) for rank in pool.ranks),
    )


def _columns(rows: Sequence[Row], *, blank_last: bool) -> list[Column]:
    def texts(values: list[str], styles: list[str] | None = None) -> list[Text]:
        if blank_last:
            values = [*values[:-1], ""]
        return [
            Text(value, style=style) for value, style in zip(values, styles or [""] * len(rows), strict=True)
        ]

    def numbers(name: str, *, leave: int = 0, color: str = "") -> Column:
        values = [getattr(row, name) for row in rows]
        cells = texts([str(value) for value in values], [color if value else "" for value in values])
        return Column(name, cells, right=True, leave=leave)

    columns = [
        Column("rank", [Text(row.name) for row in rows]),
        Column("host", texts([row.host for row in rows]), leave=3, shrinks=True),
        Column(
            "state",
            [
                Text(row.state, style=COLORS.get(row.state.split()[-1] if row.state else "", "cyan"))
                for row in rows
            ],
        ),
        numbers("processed"),
        numbers("dropped", leave=1 if any(row.dropped for row in rows) else 4),
        numbers("failed", color="red"),
        Column("frames/s", texts([f"{row.rate_hz:.1f}" for row in rows]), right=True),
        Column("queue", texts([str(row.queued) for row in rows]), right=True, leave=2),
    ]
    if any(row.deaths for row in rows):
        deaths = texts([str(row.deaths or "") for row in rows])
        columns.append(Column("deaths", deaths, right=True))
    return columns
