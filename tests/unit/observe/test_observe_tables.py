"""What people see of a run: tables and lines from a report."""

import io

import msgspec
import pytest
from rich.console import Console, RenderableType

from beamcast.observe.lines import failure_line, progress_line, read_line
from beamcast.observe.ranks import chosen_rows
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
from beamcast.observe.source_lines import MAX_IDS_CHARACTERS, shortened
from beamcast.observe.tables import LIVE_RANKS, live_view, summary


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
        timing_s=Timing(elapsed=12.0, submit_to_ready=2.5, streaming=10.0),
        throughput=Throughput(frames_per_s=10.0, bytes_per_s=2e6),
        versions={},
    )


def shown(what: RenderableType, *, width: int = 140) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(what)
    return out.getvalue()


def test_frames_without_metadata_and_refused_ones_are_told_while_the_run_lasts_and_afterwards() -> None:
    base = report()
    assert "metadata" not in shown(summary(base, width=140))
    ranks = (rank(0), msgspec.structs.replace(rank(1), without_metadata=7))
    one = MetadataReport(name="motor", channel="ioc:m1", updates=90, matched=80, unmatched=3, unusable=1)
    told = msgspec.structs.replace(
        base, metadata=(one,), pools=(msgspec.structs.replace(base.pools[0], ranks=ranks),)
    )
    line = "7 frames without all of their metadata, at stats/1"
    for text in (
        shown(live_view(told, width=140)),
        shown(summary(told, width=140)),
        progress_line(told),
    ):
        assert line in text
    assert "refused" not in shown(summary(told, width=140))
    odd = msgspec.structs.replace(told, source=SourceReport(refused=2))
    for text in (shown(live_view(odd, width=140)), shown(summary(odd, width=140))):
        assert line in text
        assert "2 frames refused, which do not have the structure of the source" in text
    assert progress_line(odd).endswith(
        f"; 2 frames refused, which do not have the structure of the source; {line}"
    )
    many = tuple(msgspec.structs.replace(rank(n), without_metadata=1) for n in range(6))
    crowd = msgspec.structs.replace(told, pools=(msgspec.structs.replace(base.pools[0], ranks=many),))
    assert "6 frames without all of their metadata, at stats/0, stats/1, stats/2, stats/3 and 2 more" in (
        progress_line(crowd)
    )
    (row,) = [row.split() for row in shown(summary(told, width=140)).splitlines() if row.startswith("motor")]
    assert row == ["motor", "ioc:m1", "90", "80", "3", "1"]


def test_the_live_view_has_state_numbers_and_a_line_for_each_rank() -> None:
    text = shown(live_view(report(), width=140))
    assert "r1  streaming  12.0 s since the start  10.0 frames/s now" in text
    assert "outstanding" in text
    assert [line.split()[:3] for line in text.splitlines() if line.startswith("stats/")] == [
        ["stats/0", "node7", "ready"],
        ["stats/1", "node7", "ready"],
    ]
    assert "beamcast watch bl:result --server 127.0.0.1:20001" in text


def crowd(ranks: int = 24) -> Report:
    """Many consumers, one of them dead and one with failures, and a collector behind them."""
    trouble = {7: {"state": "dead", "failed": 0}, 19: {"failed": 3}}
    plain = [msgspec.structs.replace(rank(n), failed=0, deaths=(), processed=123456) for n in range(ranks)]
    workers = tuple(msgspec.structs.replace(one, **trouble.get(one.rank, {})) for one in plain)
    base = report()
    return msgspec.structs.replace(
        base,
        frames=Frames(source=3000000, received=2999999, processed=2999990, collected=2999980, lost=20),
        pools=(
            PoolReport(name="processed", role="consumer", ranks=workers),
            PoolReport(name="collect", role="collector", ranks=(plain[0],)),
        ),
    )


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("ranks", [2, 24])
def test_nothing_breaks_inside_a_word_or_a_number(width: int, ranks: int) -> None:
    """P13."""
    told = crowd(ranks)
    for view in (live_view(told, width=width, height=24), summary(told, width=width)):
        text = shown(view, width=width)
        assert all(len(line) <= width for line in text.splitlines())
        words = text.split()
        for word in ("processed", "failed", "frames/s", "123456", "2999990", "collect/0"):
            assert word in words, f"{word} in\n{text}"


def test_the_live_view_fits_the_screen_and_shows_every_pool_and_those_in_trouble() -> None:
    """P13: with many ranks the collector and those that need a look are there, at any height."""
    told = crowd()
    for height in (16, 20, 24, 40):
        text = shown(live_view(told, width=80, height=height), width=80)
        names = [line.split()[0] for line in text.splitlines() if line.split()]
        assert len(text.splitlines()) < height
        if height < 40:
            assert "processed" in names, "the pool in one line"
            assert "23/24 up" in text
            assert "more" in text
        assert {"collect/0", "processed/7", "processed/19"} <= set(names)
    sums = next(line for line in text.splitlines() if line.startswith("processed/7"))
    assert "dead" in sums


def test_a_pool_in_one_line_has_the_sums_of_its_ranks() -> None:
    rows, left_out = chosen_rows(crowd(), lines=4)
    assert [row.name for row in rows] == ["processed", "collect/0", "processed/7"]
    assert left_out == 23
    assert (rows[0].processed, rows[0].failed, rows[0].queued) == (24 * 123456, 3, 72)
    assert chosen_rows(crowd(), lines=None)[1] == 0


def test_the_live_view_does_not_outgrow_a_screen_of_unknown_height() -> None:
    text = shown(live_view(report(ranks=100), width=140))
    assert text.count("node7") == LIVE_RANKS - 1
    assert f"… {100 - LIVE_RANKS + 2} more" in text


def test_the_summary_names_lost_and_failed_frames() -> None:
    done = msgspec.structs.replace(report(), state="done", reason="all frames sent\nsecond line")
    text = shown(summary(done, width=140))
    assert "r1  done  all frames sent\n" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["8", "mirror", "to", "rank", "stats/1", "3-10"] in lines
    assert "ValueError: [bold] no" in text, "text of users is no markup"
    assert "failed/s-0-41.txt" in text
    assert "submission to ready 2.50 s, streaming 10.00 s, 10.0 frames/s, 2.0 MB/s" in text


def test_all_ranks_are_in_the_summary() -> None:
    assert shown(summary(report(ranks=100), width=140)).count("node7") == 100


def test_long_ranges_are_cut_between_ranges() -> None:
    ids = ",".join(str(number) for number in range(1000, 2000, 2))
    cut = shortened(ids)
    assert len(cut) <= MAX_IDS_CHARACTERS + 2
    assert cut.endswith(",…")
    assert ids.startswith(cut.removesuffix("…"))
    assert shortened("1-5,9") == "1-5,9"


def test_the_progress_line_holds_the_numbers() -> None:
    line = progress_line(report())
    assert line == (
        "   12.0 s  streaming: source 110, received 105, processed 100, collected 100, dropped 0, failed 2, "
        "outstanding 8; 10.0 frames/s; ranks 2/2"
    )
    assert read_line(msgspec.structs.replace(report(), result_channels=())) is None


def test_the_first_failure_is_told_while_the_run_lasts() -> None:
    """P5."""
    line = (
        "first failure: ValueError: [bold] no (pool stats, rank 0, frame 41); traceback in failed/s-0-41.txt"
    )
    assert failure_line(report()) == line
    assert line in shown(live_view(report(), width=140))
    assert failure_line(msgspec.structs.replace(report(), failed_frames=())) is None


def test_the_last_line_of_a_summary_is_the_verdict_unless_it_is_told_elsewhere() -> None:
    done = msgspec.structs.replace(report(), state="done", reason="all frames sent")
    lost = "verdict: lost 8 of 110 frames, and the workflow allows 0 (allow_lost); the report names them"
    assert shown(summary(done, width=140)).splitlines()[-1] == lost
    silent = shown(summary(done, width=140, told_elsewhere=True))
    assert "verdict" not in silent
    assert "all frames sent" not in silent


def test_an_error_that_came_often_is_told_once() -> None:
    failed = tuple(
        FailedFrameReport(pool="stats", rank=0, id=str(n), error="E: x", traceback_file=f"failed/{n}.txt")
        for n in range(500)
    )
    text = shown(summary(msgspec.structs.replace(report(), state="done", failed_frames=failed), width=140))
    assert "failed: 500 times E: x (first at stats/0, frame 0: failed/0.txt)" in text
    assert "failed/1.txt" not in text
