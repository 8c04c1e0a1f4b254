"""A run in one line of text, for logs and pipes, and what else is said of it in a line."""

from beamcast.observe.ranks import UP
from beamcast.observe.report import AllocationReport, Report
from beamcast.observe.source_lines import source_lines
from beamcast.observe.verdict import failure_text

# So many ranks are named in a line.
MOST_RANKS = 4


def progress_line(report: Report) -> str:
    """State and numbers now; the seconds are those since the start of the run."""
    elapsed_s = report.timing_s.elapsed or 0.0
    if report.state == "queued":
        return f"{elapsed_s:7.1f} s  queued: {allocation_line(report)}"
    frames = report.frames
    numbers = (
        f"source {frames.source}, received {frames.received}, processed {frames.processed}, "
        f"collected {frames.collected}, dropped {frames.dropped}, failed {frames.failed}, "
        f"outstanding {frames.lost}"
    )
    ranks = [rank for pool in report.pools for rank in pool.ranks]
    up = sum(rank.state in UP for rank in ranks)
    rate = f"{report.throughput.frames_per_s:.1f} frames/s"
    line = f"{elapsed_s:7.1f} s  {report.state}: {numbers}; {rate}; ranks {up}/{len(ranks)}"
    return "; ".join([line, *warnings(report)])


def failure_line(report: Report) -> str | None:
    """The first frame on which a processor failed; None where it failed on none."""
    if not report.failed_frames:
        return None
    return f"first failure: {failure_text(report.failed_frames[0], where=True)}"


def read_line(report: Report) -> str | None:
    """How to read the results while the run lasts; None for a run without result PVs."""
    if not report.result_channels:
        return None
    return f"beamcast watch {report.result_channels[0]} --server {report.name_server}"


def warnings(report: Report) -> list[str]:
    """What whoever looks at the run should know besides the numbers: one line for each."""
    metadata = without_metadata_line(report)
    return [*source_lines(report), *([] if metadata is None else [metadata])]


def without_metadata_line(report: Report) -> str | None:
    """How many frames went without all of their metadata; None where none did."""
    each = {
        f"{pool.name}/{rank.rank}": rank.without_metadata
        for pool in report.pools
        for rank in pool.ranks
        if rank.without_metadata
    }
    if not each:
        return None
    names = ", ".join(list(each)[:MOST_RANKS])
    more = f" and {len(each) - MOST_RANKS} more" if len(each) > MOST_RANKS else ""
    return f"{sum(each.values())} frames without all of their metadata, at {names}{more}"


def allocation_line(report: Report) -> str | None:
    """What the scheduler says of the run's jobs that matter now; None for a run without a scheduler."""
    if not report.allocations:
        return None
    last = report.allocations[-1].number
    current = [
        each for each in report.allocations if each.number == last or each.state in ("waiting", "running")
    ]
    return "; ".join(_allocation(each) for each in current)


def _allocation(one: AllocationReport) -> str:
    name = f"job {one.job}" if one.job else f"allocation {one.number}"
    where = f" on {', '.join(one.nodes[:4])}{' …' if len(one.nodes) > 4 else ''}" if one.nodes else ""
    place = f", number {one.position} in the queue" if one.position is not None else ""
    reason = f" ({one.reason})" if one.reason else ""
    return f"{name} is {one.state}{where}{place}{reason}"
