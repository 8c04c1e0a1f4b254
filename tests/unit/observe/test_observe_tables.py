"""What people see of a run: tables and lines from a report."""

import io

import msgspec
import pytest
from rich.console import Console, RenderableType

from beamcast.observe.lines import RateMeter, progress_line, read_line
from beamcast.observe.report import (
    FailedFrameReport,
    Frames,
    MetadataReport,
    MissingIds,
    PoolReport,
    RankReport,
    Report,
    SourceReport,
    Throughput,
    Timing,
)
from beamcast.observe.tables import LIVE_RANKS, MAX_IDS_CHARACTERS, live_view, shortened, summary


def rank(number: int) -> RankReport:
    return RankReport(
        rank=number,
        host="node7",
        pid=1,
        slot=number,
        state="ready",
        generation=0,
        processed=50,
        dropped=1,
        failed=2,
        rate_hz=12.5,
        queued=3,
        server_overruns=0,
        receiver_rejected=0,
        deaths=("no heartbeat for 5 s",) if number == 0 else (),
    )


def report(ranks: int = 2) -> Report:
    return Report(
        run="r1",
        state="streaming",
        reason="",
        workflow="w",
        site="local",
        delivery="at-most-once",
        result_channels=("bl:result",),
        name_server="127.0.0.1:20001",
        frames=Frames(source=110, received=105, processed=100, collected=100, failed=2, lost=8),
        missing=(MissingIds(hop="mirror to rank", pool="stats", rank=1, count=8, ids="3-10"),),
        failed_frames=(
            FailedFrameReport(
                pool="stats",
                rank=0,
                id="41",
                error="ValueError: [bold] no",
                traceback_file="failed/s-0-41.txt",
            ),
        ),
        pools=(PoolReport(name="stats", role="consumer", ranks=tuple(rank(n) for n in range(ranks))),),
        source=SourceReport(),
        timing_s=Timing(submit_to_ready=2.5, streaming=10.0),
        throughput=Throughput(frames_per_s=10.0, bytes_per_s=2e6),
        versions={},
    )


def shown(what: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=140, force_terminal=False).print(what)
    return out.getvalue()


def test_frames_without_metadata_and_refused_ones_are_told_while_the_run_lasts_and_afterwards() -> None:
    base = report()
    assert "metadata" not in shown(summary(base))
    ranks = (rank(0), msgspec.structs.replace(rank(1), without_metadata=7))
    one = MetadataReport(name="motor", channel="ioc:m1", updates=90, matched=80, unmatched=3, unusable=1)
    told = msgspec.structs.replace(
        base, metadata=(one,), pools=(msgspec.structs.replace(base.pools[0], ranks=ranks),)
    )
    line = "7 frames without all of their metadata, at stats/1"
    for text in (
        shown(live_view(told, elapsed_s=1.0, rate_hz=1.0)),
        shown(summary(told)),
        progress_line(told, elapsed_s=1.0, rate_hz=1.0),
    ):
        assert line in text
    assert "refused" not in shown(summary(told))
    odd = msgspec.structs.replace(told, source=SourceReport(refused=2))
    for text in (shown(live_view(odd, elapsed_s=1.0, rate_hz=1.0)), shown(summary(odd))):
        assert line in text
        assert "2 frames refused, which do not have the structure of the source" in text
    assert progress_line(odd, elapsed_s=1.0, rate_hz=1.0).endswith(
        f"{line}; 2 frames refused, which do not have the structure of the source"
    )
    many = tuple(msgspec.structs.replace(rank(n), without_metadata=1) for n in range(6))
    crowd = msgspec.structs.replace(told, pools=(msgspec.structs.replace(base.pools[0], ranks=many),))
    assert "6 frames without all of their metadata, at stats/0, stats/1, stats/2, stats/3 and 2 more" in (
        progress_line(crowd, elapsed_s=1.0, rate_hz=1.0)
    )
    (row,) = [row.split() for row in shown(summary(told)).splitlines() if row.startswith("motor")]
    assert row == ["motor", "ioc:m1", "90", "80", "3", "1"]


def test_the_live_view_has_state_numbers_and_a_line_for_each_rank() -> None:
    text = shown(live_view(report(), elapsed_s=12.0, rate_hz=99.5))
    assert "streaming  12.0 s  99.5 frames/s" in text
    assert "outstanding" in text
    assert [line.split()[:3] for line in text.splitlines() if line.startswith("stats/")] == [
        ["stats/0", "node7", "ready"],
        ["stats/1", "node7", "ready"],
    ]
    assert "beamcast watch bl:result --server 127.0.0.1:20001" in text


def test_the_live_view_does_not_outgrow_the_screen() -> None:
    text = shown(live_view(report(ranks=100), elapsed_s=1.0, rate_hz=0.0))
    assert f"… {100 - LIVE_RANKS + 1} more" in text
    assert text.count("node7") == LIVE_RANKS - 1


def test_the_summary_names_lost_and_failed_frames() -> None:
    done = msgspec.structs.replace(report(), state="done", reason="all frames sent\nsecond line")
    text = shown(summary(done))
    assert "r1  done  all frames sent\n" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["8", "mirror", "to", "rank", "stats/1", "3-10"] in lines
    assert "ValueError: [bold] no" in text, "text of users is no markup"
    assert "failed/s-0-41.txt" in text
    assert "submission to ready 2.50 s, streaming 10.00 s, 10.0 frames/s, 2.0 MB/s" in text


def test_all_ranks_are_in_the_summary() -> None:
    assert shown(summary(report(ranks=100))).count("node7") == 100


def test_long_ranges_are_cut_between_ranges() -> None:
    ids = ",".join(str(number) for number in range(1000, 2000, 2))
    cut = shortened(ids)
    assert len(cut) <= MAX_IDS_CHARACTERS + 2
    assert cut.endswith(",…")
    assert ids.startswith(cut.removesuffix("…"))
    assert shortened("1-5,9") == "1-5,9"


def test_the_progress_line_holds_the_numbers() -> None:
    line = progress_line(report(), elapsed_s=3.0, rate_hz=7.0)
    assert line == (
        "    3.0 s  streaming: source 110, received 105, processed 100, collected 100, dropped 0, failed 2, "
        "outstanding 8; 7.0 frames/s; ranks 2/2"
    )
    assert read_line(msgspec.structs.replace(report(), result_channels=())) is None


def test_the_rate_is_that_between_two_reports() -> None:
    meter, now = RateMeter(), report()
    assert meter.update(now, 10.0) == 0.0
    later = msgspec.structs.replace(now, frames=msgspec.structs.replace(now.frames, collected=150))
    assert meter.update(later, 12.0) == pytest.approx(25.0)
    assert meter.update(now, 13.0) == 0.0, "a count that went back is no negative rate"
