"""What a run was worth: a table from reports to verdicts and exit statuses."""

from typing import Any

import msgspec
import pytest

from beamcast.core.errors import TooManyFailed, UsageError
from beamcast.core.failures import FIRST_FRAMES, gives_up, too_many
from beamcast.observe.report import (
    FailedFrameReport,
    Frames,
    PoolReport,
    RankReport,
    Report,
    SourceReport,
    Throughput,
    Timing,
    decode_report,
    encode_report,
)
from beamcast.observe.verdict import verdict_of

FIRST = FailedFrameReport(pool="work", rank=1, id="7", error="ValueError: no", traceback_file="failed/w.txt")
EXAMPLE = ": ValueError: no (pool work, rank 1, frame 7)"


def pool(*, failed: int = 0, max_failed: int | None = None) -> PoolReport:
    rank = RankReport(
        rank=0,
        host="h",
        pid=1,
        slot=0,
        state="finished",
        generation=0,
        processed=0,
        dropped=0,
        failed=failed,
        rate_hz=0.0,
        queued=0,
        server_overruns=0,
        receiver_rejected=0,
    )
    return PoolReport(name="work", role="consumer", ranks=(rank,), max_failed=max_failed)


def report(state: str = "done", *, frames: dict[str, int] | None = None, **more: Any) -> Report:
    base = Report(
        run="r",
        state=state,
        reason="all frames sent",
        workflow="w",
        site="local",
        delivery="at-most-once",
        result_channels=("r:result",),
        name_server="",
        frames=Frames(**{"source": 200, "collected": 200, **(frames or {})}),
        missing=(),
        failed_frames=(FIRST,) if (frames or {}).get("failed") else (),
        pools=(),
        source=SourceReport(),
        timing_s=Timing(),
        throughput=Throughput(),
        versions={},
    )
    return msgspec.structs.replace(base, **more)


@pytest.mark.parametrize(
    ("given", "word", "status", "line"),
    [
        (report(), "good", 0, "good: all 200 frames came through"),
        (
            report(frames={"collected": 180, "dropped": 20}),
            "good",
            0,
            "good: 180 of 200 frames came through, 20 dropped by the processors",
        ),
        (
            report(frames={"collected": 197, "failed": 3}),
            "good but",
            0,
            f"good, but 3 failed of 200 frames{EXAMPLE}",
        ),
        (
            report(frames={"collected": 198, "lost": 2}, allow_lost=2),
            "good but",
            0,
            "good, but 2 were lost of 200 frames",
        ),
        (
            report(frames={"collected": 188, "lost": 12}),
            "lost",
            3,
            "lost 12 of 200 frames, and the workflow allows 0 (allow_lost); the report names them",
        ),
        (
            report(frames={"collected": 0, "failed": 200}),
            "gave nothing",
            5,
            f"gave nothing: all 200 frames failed{EXAMPLE}",
        ),
        (
            report(frames={"source": 1, "collected": 0, "failed": 1}),
            "gave nothing",
            5,
            f"gave nothing: the only frame failed{EXAMPLE}",
        ),
        (
            report(frames={"collected": 0, "dropped": 200}),
            "gave nothing",
            5,
            "gave nothing: the processors dropped all 200 frames: they returned nothing for them",
        ),
        (
            report(frames={"collected": 0, "dropped": 200}, result_channels=()),
            "good",
            0,
            "good: 0 of 200 frames came through, 200 dropped by the processors",
        ),
        (
            report(frames={"source": 0, "collected": 0}, reason="stopped by the user"),
            "gave nothing",
            5,
            "gave nothing: no frame came from the source (stopped by the user)",
        ),
        (report(frames={"collected": 0, "lost": 200}), "lost", 3, "lost all 200 frames"),
        (
            report(frames={"collected": 0, "lost": 200}, allow_lost=500),
            "gave nothing",
            5,
            "gave nothing: all 200 frames were lost",
        ),
        (
            report(frames={"collected": 90, "failed": 110}),
            "too many failed",
            4,
            f"too many failed: 110 of 200 frames failed, more than came through{EXAMPLE}",
        ),
        (
            report(frames={"collected": 100, "failed": 100}),
            "good but",
            0,
            f"good, but 100 failed of 200 frames{EXAMPLE}",
        ),
        (
            report(frames={"collected": 90, "failed": 110}, pools=(pool(failed=110, max_failed=150),)),
            "good but",
            0,
            f"good, but 110 failed of 200 frames{EXAMPLE}",
        ),
        (
            report(frames={"collected": 194, "failed": 6}, pools=(pool(failed=6, max_failed=5),)),
            "too many failed",
            4,
            f"too many failed: 6 frames failed in pool work, max_failed is 5{EXAMPLE}",
        ),
        (
            report("failed", reason="no frame came\nthe log", error_status=1),
            "failed",
            1,
            "failed: no frame came",
        ),
        (
            report("failed", reason="no such class", error_status=UsageError.exit_code),
            "failed",
            2,
            "failed: no such class",
        ),
        (
            report("failed", reason="101 frames failed", error_status=TooManyFailed.exit_code),
            "too many failed",
            4,
            "failed: 101 frames failed",
        ),
        (report("failed", reason=""), "failed", 1, "failed: no reason is known"),
        (
            report("cancelled", reason="stopped by the user, without draining", frames={"collected": 50}),
            "stopped",
            1,
            "stopped: stopped by the user, without draining; 50 of 200 frames had come through",
        ),
        (
            report(
                "cancelled",
                reason="stopped by the user before it was ready",
                frames={"source": 0, "collected": 0},
            ),
            "stopped",
            1,
            "stopped: stopped by the user before it was ready; no frame had come",
        ),
    ],
)
def test_the_verdict_follows_from_the_report(given: Report, word: str, status: int, line: str) -> None:
    """P5."""
    verdict = verdict_of(given)
    assert verdict is not None
    assert (verdict.word, verdict.exit_status) == (word, status)
    assert verdict.line.startswith(line)
    assert "\n" not in verdict.line


@pytest.mark.parametrize("state", ["submitted", "queued", "starting", "ready", "streaming", "draining"])
def test_a_run_that_goes_on_has_no_verdict(state: str) -> None:
    assert verdict_of(report(state)) is None


def test_the_verdict_is_in_the_report_and_is_not_judged_again() -> None:
    judged = report(frames={"collected": 0, "failed": 200})
    stored = msgspec.structs.replace(judged, verdict=verdict_of(judged))
    back = decode_report(encode_report(stored))
    assert back.verdict == verdict_of(judged)
    assert verdict_of(msgspec.structs.replace(back, frames=Frames())) == back.verdict


@pytest.mark.parametrize(
    ("failed", "well", "max_failed", "during", "at_the_end"),
    [
        (FIRST_FRAMES - 1, 0, None, False, True),
        (FIRST_FRAMES, 0, None, True, True),
        (FIRST_FRAMES, 1, None, False, True),
        (5000, 5000, None, False, False),
        (5001, 5000, None, False, True),
        (0, 0, 0, False, False),
        (1, 999, 0, True, True),
        (5, 0, 5, False, False),
        (6, 1000, 5, True, True),
        (FIRST_FRAMES, 0, 10**9, False, False),
    ],
)
def test_how_many_failed_frames_are_too_many(
    failed: int, well: int, max_failed: int | None, during: bool, at_the_end: bool
) -> None:
    assert gives_up(failed=failed, well=well, max_failed=max_failed) is during
    assert too_many(failed=failed, well=well, max_failed=max_failed) is at_the_end
