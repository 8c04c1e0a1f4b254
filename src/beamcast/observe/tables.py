"""A report as tables for the terminal (rich renderables); prints nothing itself."""

from collections import Counter
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from beamcast.observe.layout import Column, flow, table_of, wrapped
from beamcast.observe.lines import (
    allocation_line,
    failure_line,
    read_line,
    warnings,
    without_metadata_line,
)
from beamcast.observe.ranks import COLORS, ranks_table
from beamcast.observe.report import FailedFrameReport, Report
from beamcast.observe.source_lines import shortened, source_lines
from beamcast.observe.verdict import GOOD, verdict_of

# Without a screen that says how many lines it has.
LIVE_RANKS = 24
MOST_ERRORS = 8
# One that is too narrow for anything.
LEAST_WIDTH = 40


def live_view(report: Report, *, width: int, height: int | None = None) -> RenderableType:
    """State, frames by stage and the ranks, now; of at most `height` lines, if that can be had."""
    width = max(width, LEAST_WIDTH)
    head = _head(report, width)
    below = [Text(line, style="red") for line in _folded(failure_line(report), width)]
    for warning in warnings(report):
        below += [Text(line, style="yellow") for line in wrapped(warning, width)]
    if (line := read_line(report)) is not None:
        below += [Text(each, style="dim") for each in wrapped(f"read the result: {line}", width)]
    lines = LIVE_RANKS
    if height is not None:
        # Less one: for the cursor's line.
        lines = max(height - len(head) - len(below) - 2, len(report.pools) + 1)
    return Group(*head, ranks_table(report, width=width, lines=lines), *below)


def _head(report: Report, width: int) -> list[Text]:
    """Lines above the ranks."""
    elapsed_s = report.timing_s.elapsed
    items = [report.run, report.state]
    if elapsed_s is not None:
        items.append(f"{elapsed_s:.1f} s since the start")
    items.append(f"{report.throughput.frames_per_s:.1f} frames/s now")
    lines = [Text(line) for line in flow(items, width)]
    lines[0].stylize("bold", 0, len(report.run))
    lines[0].highlight_words([report.state], style=COLORS.get(report.state, "cyan"))
    return [
        *lines,
        *(Text(line) for line in _folded(allocation_line(report), width)),
        *_frames(report, width, running=True),
    ]


def _folded(line: str | None, width: int) -> list[str]:
    return [] if line is None else wrapped(line, width)


def summary(report: Report, *, width: int, told_elsewhere: bool = False) -> RenderableType:
    """What came of a run; the last line is the verdict. `told_elsewhere`: it is not, and why the run ended is not said
    either."""
    width = max(width, LEAST_WIDTH)
    head = Text.assemble((report.run, "bold"), "  ", _state(report.state))
    if report.state == "done" and report.reason and not told_elsewhere:
        head.append(f"  {report.reason.splitlines()[0]}")
    parts: list[RenderableType] = [head, *_frames(report, width, running=False)]
    parts.append(ranks_table(report, width=width, lines=None))
    if any(rank.misplaced or rank.gpu for pool in report.pools for rank in pool.ranks):
        parts.append(_places(report))
    if len(report.allocations) > 1 or any(each.reason for each in report.allocations):
        parts.append(_allocations(report))
    if wrong := [pool for pool in report.pools if pool.turns not in ("", "as planned")]:
        parts += [Text(f"{pool.name}: {pool.turns}", style="yellow") for pool in wrong]
    if report.metadata:
        parts += _metadata(report, width)
    for each in source_lines(report):
        parts += [Text(line, style="yellow") for line in wrapped(each, width)]
    if report.missing:
        parts.append(_missing(report))
    parts += _failed(report, width)
    parts += [Text(line) for text in _closing(report) for line in wrapped(text, width)]
    if not told_elsewhere:
        parts += verdict_lines(report, width=width)
    return Group(*parts)


def verdict_lines(report: Report, *, width: int) -> list[Text]:
    """What it was worth; nothing while it lasts."""
    verdict = verdict_of(report)
    if verdict is None:
        return []
    style = "green" if verdict.word == "good" else "yellow" if verdict.exit_status == GOOD else "red"
    return [Text(line, style=style) for line in wrapped(f"verdict: {verdict.line}", width)]


def _state(state: str) -> Text:
    return Text(state, style=COLORS.get(state, "cyan"))


def _table(*columns: str, right: tuple[str, ...] = (), folds: str = "") -> Table:
    """Only the column that `folds` may be broken."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in right else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=column != folds)
    return table


def _frames(report: Report, width: int, *, running: bool) -> list[Text]:
    frames = report.frames
    items = ["frames:"]
    items += [
        f"{name} {getattr(frames, name)}"
        for name in ("source", "received", "processed", "collected", "dropped", "failed")
    ]
    lost = f"{'outstanding' if running else 'lost'} {frames.lost}"
    items += [lost, f"duplicates {frames.duplicates}"]
    lines = [Text(line) for line in flow(items, width)]
    for line in lines:
        if frames.lost and not running:
            line.highlight_words([lost], style="bold red")
        if frames.failed:
            line.highlight_words([f"failed {frames.failed}"], style="red")
    return lines


def _places(report: Report) -> Table:
    """Where ranks really sat, where there is more to say than the host."""
    table = _table(
        *("rank", "node", "local rank", "GPU", "CPUs", "not as planned"),
        right=("node", "local rank"),
        folds="not as planned",
    )
    rows = [(pool.name, rank) for pool in report.pools for rank in pool.ranks]
    for pool, rank in rows[:LIVE_RANKS]:
        wrong = Text(rank.misplaced, style="yellow")
        table.add_row(f"{pool}/{rank.rank}", str(rank.node), str(rank.local_rank), rank.gpu, rank.cpus, wrong)
    if len(rows) > LIVE_RANKS:
        table.add_row(f"… {len(rows) - LIVE_RANKS} more", "", "", "", "", "")
    return table


def _allocations(report: Report) -> Table:
    table = _table("allocation", "job", "waited", "nodes", "end", right=("waited",), folds="end")
    for one in report.allocations:
        waited = f"{one.waited_s:.1f} s" if one.waited_s is not None else ""
        table.add_row(str(one.number), one.job, waited, shortened(",".join(one.nodes)), Text(one.reason))
    return table


def _metadata(report: Report, width: int) -> list[RenderableType]:
    names, channels = zip(*((one.name, one.channel) for one in report.metadata), strict=True)
    columns = [Column("metadata", [Text(name) for name in names])]
    columns.append(Column("channel", [Text(channel) for channel in channels], shrinks=True, leave=1))
    for count in ("updates", "matched", "unmatched", "unusable"):
        cells = [Text(str(getattr(one, count))) for one in report.metadata]
        columns.append(Column(count, cells, right=True))
    table = table_of(columns, width)
    line = without_metadata_line(report)
    return [table] if line is None else [table, Text(line, style="yellow")]


def _missing(report: Report) -> Table:
    table = _table("lost", "hop", "rank", "ids", right=("lost",), folds="ids")
    for lost in report.missing:
        where = "" if lost.pool is None else lost.pool if lost.rank is None else f"{lost.pool}/{lost.rank}"
        table.add_row(str(lost.count), lost.hop, where, shortened(lost.ids))
    return table


def _failed(report: Report, width: int) -> list[Text]:
    """Each error once, with how often it came and where its first traceback is."""
    first: dict[tuple[str, str], FailedFrameReport] = {}
    for frame in report.failed_frames:
        first.setdefault((frame.pool, frame.error), frame)
    counts = Counter((frame.pool, frame.error) for frame in report.failed_frames)
    lines = []
    for key, frame in list(first.items())[:MOST_ERRORS]:
        times = f"{counts[key]} times " if counts[key] > 1 else ""
        where = f"{frame.pool}/{frame.rank}, frame {frame.id}"
        where += f": {frame.traceback_file}" if frame.traceback_file else ""
        lines.append(f"failed: {times}{frame.error} ({'first at ' if times else ''}{where})")
    if len(first) > MOST_ERRORS:
        lines.append(f"failed: {len(first) - MOST_ERRORS} more kinds of error; the report names all")
    return [Text(part, style="red") for line in lines for part in wrapped(line, width)]


def _closing(report: Report) -> list[str]:
    timing = report.timing_s
    parts = [
        f"{name} {seconds:.2f} s"
        for name, seconds in (
            ("submission to ready", timing.submit_to_ready),
            ("to the first result", timing.ready_to_first_result),
            ("streaming", timing.streaming),
            ("draining", timing.drain),
        )
        if seconds is not None
    ]
    rate = f"{report.throughput.frames_per_s:.1f} frames/s, {report.throughput.bytes_per_s / 1e6:.1f} MB/s"
    lines = [", ".join([*parts, rate])]
    if report.result_channels:
        channels = ", ".join(report.result_channels)
        lines.append(f"result PV: {channels} (while the run lasted: {read_line(report)})")
    if report.missing_file:
        lines.append(f"all ids that are missing: {report.missing_file} in the run directory")
    return lines
