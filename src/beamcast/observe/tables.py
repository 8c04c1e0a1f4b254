"""A report as tables for the terminal (rich renderables); prints nothing itself."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from beamcast.observe.lines import allocation_line, read_line, refused_line, warnings, without_metadata_line
from beamcast.observe.report import Report

# A live view that is taller than the screen can't be redrawn in place.
LIVE_RANKS = 24
MAX_IDS_CHARACTERS = 160
_COLORS = {"done": "green", "streaming": "green", "failed": "red", "cancelled": "yellow", "dead": "red"}


def live_view(report: Report, *, elapsed_s: float, rate_hz: float) -> RenderableType:
    """State, frames by stage and one line for each rank, now."""
    head = Text.assemble(
        (report.run, "bold"), "  ", _state(report.state), f"  {elapsed_s:.1f} s  {rate_hz:.1f} frames/s"
    )
    parts: list[RenderableType] = [head]
    if (jobs := allocation_line(report)) is not None:
        parts.append(Text(jobs))
    parts.append(_frames(report, running=True))
    parts.append(_ranks(report, limit=LIVE_RANKS))
    parts += [Text(line, style="yellow") for line in warnings(report)]
    if (line := read_line(report)) is not None:
        parts.append(Text(f"read the result: {line}", style="dim"))
    return Group(*parts)


def summary(report: Report) -> RenderableType:
    """What came of a run."""
    head = Text.assemble((report.run, "bold"), "  ", _state(report.state))
    if report.reason:
        head.append(f"  {report.reason.splitlines()[0]}")
    parts: list[RenderableType] = [head, _frames(report, running=False), _ranks(report, limit=None)]
    if any(rank.misplaced or rank.gpu for pool in report.pools for rank in pool.ranks):
        parts.append(_places(report))
    if len(report.allocations) > 1 or any(each.reason for each in report.allocations):
        parts.append(_allocations(report))
    if wrong := [pool for pool in report.pools if pool.turns not in ("", "as planned")]:
        parts += [Text(f"{pool.name}: {pool.turns}", style="yellow") for pool in wrong]
    if report.metadata:
        parts += _metadata(report)
    if (line := refused_line(report)) is not None:
        parts.append(Text(line, style="yellow"))
    if report.missing:
        parts.append(_missing(report))
    if report.failed_frames:
        parts.append(_failed(report))
    parts.append(Text(_closing(report)))
    return Group(*parts)


def _state(state: str) -> Text:
    return Text(state, style=_COLORS.get(state, "cyan"))


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def _frames(report: Report, *, running: bool) -> Table:
    frames = report.frames
    columns = ("source", "received", "processed", "collected", "dropped", "failed")
    last = "outstanding" if running else "lost"
    names = (*columns, last, "duplicates")
    table = _table("frames", *names, right=names)
    numbers = [str(getattr(frames, name)) for name in columns]
    bad = "bold red" if frames.lost and not running else ""
    table.add_row("", *numbers, Text(str(frames.lost), style=bad), str(frames.duplicates))
    return table


def _ranks(report: Report, *, limit: int | None) -> Table:
    numbers = ("processed", "dropped", "failed", "frames/s", "queue", "deaths")
    table = _table("rank", "host", "state", *numbers, right=numbers)
    rows = [(pool.name, rank) for pool in report.pools for rank in pool.ranks]
    shown = rows if limit is None or len(rows) <= limit else rows[: limit - 1]
    for pool, rank in shown:
        counts = (rank.processed, rank.dropped, rank.failed)
        table.add_row(
            f"{pool}/{rank.rank}",
            rank.host or "-",
            _state(rank.state),
            *map(str, counts),
            f"{rank.rate_hz:.1f}",
            str(rank.queued),
            str(len(rank.deaths)) if rank.deaths else "",
        )
    if len(shown) < len(rows):
        table.add_row(f"… {len(rows) - len(shown)} more", *[""] * 8)
    return table


def _places(report: Report) -> Table:
    """Where ranks really sat, where there is more to say than the host."""
    table = _table(
        "rank", "node", "local rank", "GPU", "CPUs", "not as planned", right=("node", "local rank")
    )
    rows = [(pool.name, rank) for pool in report.pools for rank in pool.ranks]
    for pool, rank in rows[:LIVE_RANKS]:
        wrong = Text(rank.misplaced, style="yellow")
        table.add_row(f"{pool}/{rank.rank}", str(rank.node), str(rank.local_rank), rank.gpu, rank.cpus, wrong)
    if len(rows) > LIVE_RANKS:
        table.add_row(f"… {len(rows) - LIVE_RANKS} more", "", "", "", "", "")
    return table


def _allocations(report: Report) -> Table:
    table = _table("allocation", "job", "waited", "nodes", "end", right=("waited",))
    for one in report.allocations:
        waited = f"{one.waited_s:.1f} s" if one.waited_s is not None else ""
        table.add_row(str(one.number), one.job, waited, shortened(",".join(one.nodes)), Text(one.reason))
    return table


def _metadata(report: Report) -> list[RenderableType]:
    counts = ("updates", "matched", "unmatched", "unusable")
    table = _table("metadata", "channel", *counts, right=counts)
    for one in report.metadata:
        table.add_row(one.name, one.channel, *(str(getattr(one, name)) for name in counts))
    line = without_metadata_line(report)
    return [table] if line is None else [table, Text(line, style="yellow")]


def _missing(report: Report) -> Table:
    table = _table("lost", "hop", "rank", "ids", right=("lost",))
    for lost in report.missing:
        where = "" if lost.pool is None else lost.pool if lost.rank is None else f"{lost.pool}/{lost.rank}"
        table.add_row(str(lost.count), lost.hop, where, shortened(lost.ids))
    return table


def _failed(report: Report) -> Table:
    table = _table("failed frame", "rank", "error", "traceback")
    for frame in report.failed_frames[:LIVE_RANKS]:
        table.add_row(frame.id, f"{frame.pool}/{frame.rank}", Text(frame.error), frame.traceback_file)
    if len(report.failed_frames) > LIVE_RANKS:
        table.add_row(f"… {len(report.failed_frames) - LIVE_RANKS} more", "", "", "")
    return table


def _closing(report: Report) -> str:
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
    return "\n".join(lines)


def shortened(ids: str) -> str:
    """Ranges cut at a comma where they would fill the screen; the report has all of them."""
    if len(ids) <= MAX_IDS_CHARACTERS:
        return ids
    return ids[: ids.rfind(",", 0, MAX_IDS_CHARACTERS)] + ",…"
