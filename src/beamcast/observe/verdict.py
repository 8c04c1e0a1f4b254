"""What a run was worth, in one line, with the exit status of the commands that watched it. Pure.

The choice: a run is judged by its report alone, so that `run`, `attach`, `status` and `report` say the same, on any
host and at any later time. What went wrong earlier in a frame's life is named first: lost before failed. A run that
gave nothing is not a good run, even where nothing went wrong on the way.
"""

from beamcast.core.errors import BeamcastError, TooManyFailed, UsageError
from beamcast.core.failures import failed_text, too_many
from beamcast.observe.report import FailedFrameReport, Frames, Report, Verdict
from beamcast.observe.source_lines import repeated_line, unaccounted

GOOD = 0
FAILED = BeamcastError.exit_code
USAGE = UsageError.exit_code
LOST = 3
TOO_MANY_FAILED = TooManyFailed.exit_code
GAVE_NOTHING = 5
FINAL = frozenset({"done", "failed", "cancelled"})


def verdict_of(report: Report) -> Verdict | None:
    """The verdict on a run; None while it goes on."""
    if report.state not in FINAL:
        return None
    return report.verdict or _judge(report)


def _judge(report: Report) -> Verdict:
    if report.state == "failed":
        return _broken_off(report)
    if report.state == "cancelled":
        return Verdict(word="stopped", line=f"stopped: {_how_far(report)}", exit_status=FAILED)
    return (
        _lost(report)
        or _not_whole(report)
        or _gave_nothing(report)
        or _too_many_failed(report)
        or _good(report)
    )


def _broken_off(report: Report) -> Verdict:
    status = report.error_status or FAILED
    word = "too many failed" if status == TOO_MANY_FAILED else "failed"
    reason = report.reason.splitlines()[0] if report.reason else "no reason is known"
    return Verdict(word=word, line=f"failed: {reason}", exit_status=status)


def _how_far(report: Report) -> str:
    reason, frames = report.reason or "by the user", report.frames
    if not frames.source:
        return f"{reason}; no frame had come"
    return f"{reason}; {_of(frames.collected, frames)} had come through"


def _lost(report: Report) -> Verdict | None:
    frames = report.frames
    if frames.lost <= report.allow_lost:
        return None
    line = f"lost {_of(frames.lost, frames)}, and the workflow allows {report.allow_lost} (allow_lost)"
    return Verdict(word="lost", line=f"{line}; the report names them", exit_status=LOST)


def _not_whole(report: Report) -> Verdict | None:
    """A run of which nobody can say whether frames were lost."""
    if missing := unaccounted(report):
        why = f"{missing} ids are missing between the frames, and the source was not watched all the time"
    elif report.source.unwitnessed >= report.frames.source > 0:
        why = "nobody saw which frames the source sent"
    else:
        return None
    line = f"not whole: {why}: frames may be lost without being counted"
    return Verdict(word="not whole", line=line, exit_status=LOST)


def _gave_nothing(report: Report) -> Verdict | None:
    frames = report.frames
    # Without a result, what the processors chose not to pass on is no sign: they may have saved it.
    if frames.collected or (frames.dropped and not report.result_channels):
        return None
    if not frames.source:
        why = f"no frame came from the source ({report.reason})" if report.reason else "no frame came"
        repeated = repeated_line(report.source)
        why += f"; {repeated}" if repeated else ""
    elif frames.failed:
        why = f"{_of(frames.failed, frames)} failed{_example(report)}"
    elif frames.dropped:
        why = f"the processors dropped {_of(frames.dropped, frames)}: they returned nothing for them"
    else:
        why = f"{_of(frames.lost, frames)} were lost"
    return Verdict(word="gave nothing", line=f"gave nothing: {why}", exit_status=GAVE_NOTHING)


def _too_many_failed(report: Report) -> Verdict | None:
    frames = report.frames
    for pool in report.pools:
        failed = sum(rank.failed for rank in pool.ranks)
        if pool.max_failed is not None and failed > pool.max_failed:
            text = failed_text(failed=failed, pool=pool.name, max_failed=pool.max_failed)
            return _over(text, report)
    limited = any(pool.max_failed is not None for pool in report.pools)
    if limited or not too_many(failed=frames.failed, well=frames.collected + frames.dropped, max_failed=None):
        return None
    return _over(f"{_of(frames.failed, frames)} failed, more than came through", report)


def _over(line: str, report: Report) -> Verdict:
    return Verdict(
        word="too many failed",
        line=f"too many failed: {line}{_example(report)}",
        exit_status=TOO_MANY_FAILED,
    )


def _good(report: Report) -> Verdict:
    frames = report.frames
    wrong = [
        f"{count} {verb}" for count, verb in ((frames.failed, "failed"), (frames.lost, "were lost")) if count
    ]
    dropped = f", {frames.dropped} dropped by the processors" if frames.dropped else ""
    if not wrong:
        line = f"good: {_of(frames.collected, frames)} came through{dropped}"
        return Verdict(word="good", line=line, exit_status=GOOD)
    line = f"good, but {' and '.join(wrong)} of {frames.source} frames{dropped}{_example(report)}"
    return Verdict(word="good but", line=line, exit_status=GOOD)


def _of(count: int, frames: Frames) -> str:
    if count == frames.source:
        return "the only frame" if count == 1 else f"all {count} frames"
    return f"{count} of {frames.source} frames"


def _example(report: Report) -> str:
    first = report.failed_frames[0] if report.failed_frames else None
    return f": {failure_text(first)}" if first is not None and report.frames.failed else ""


def failure_text(failed: FailedFrameReport, *, where: bool = False) -> str:
    """A failed frame: the line of its exception, and at what; with `where` the file of its traceback too."""
    file = f"; traceback in {failed.traceback_file}" if where and failed.traceback_file else ""
    return f"{failed.error} (pool {failed.pool}, rank {failed.rank}, frame {failed.id}){file}"
