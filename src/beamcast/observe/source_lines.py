"""What whoever looks at a run should know of its source, in lines of text."""

import time

from beamcast.observe.report import Report, SkippedIds, SourceReport

MAX_IDS_CHARACTERS = 160


def source_lines(report: Report, *, now: float | None = None) -> list[str]:
    """A line for each thing that is amiss or out of the ordinary; `now` in seconds since 1970."""
    source = report.source
    lines = [
        away_line(source, now=time.time() if now is None else now),
        repeated_line(source),
        refused_line(source),
        blind_line(source),
        *(skipped_line(each) for each in source.skipped),
    ]
    return [line for line in lines if line is not None]


def away_line(source: SourceReport, *, now: float) -> str | None:
    """Since when the source is away, or for how long it was; None where it was there all the time."""
    if source.away_since is not None:
        since = time.strftime("%H:%M:%S", time.localtime(source.away_since))
        return f"source: away since {since} ({duration(now - source.away_since)})"
    if not source.absences:
        return None
    times = "once" if source.absences == 1 else f"{source.absences} times"
    return f"source: it was away {times}, for {duration(source.away_s)} in all"


def repeated_line(source: SourceReport) -> str | None:
    """How many updates are no frames, since they repeat an id."""
    if not source.repeated:
        return None
    return (
        f"{source.repeated} updates of the source repeat the id of the one before (at last {source.repeated_id}) and "
        "do not count as frames: does the detector number its frames? id_field under [source] says which field does"
    )


def refused_line(source: SourceReport) -> str | None:
    """How many frames that were written to the run it did not take; None where it took all."""
    refused = source.refused
    return f"{refused} frames refused, which do not have the structure of the source" if refused else None


def blind_line(source: SourceReport) -> str | None:
    """Whether frames are lost before the mirror without being counted."""
    if source.blind:
        return "the ids of the source are not seen beside its frames: what is lost before the mirror is not counted"
    if source.unwitnessed:
        return f"{source.unwitnessed} frames came whose ids nobody saw at the source: it was not watched all the time"
    return None


def skipped_line(skipped: SkippedIds) -> str:
    """Which ids are missing, and what is known of them."""
    what = (
        "ids are missing that the source's channel did not send"
        if skipped.watched
        else "ids are missing that the source may have sent: it was not watched all the time"
    )
    return f"{skipped.count} {what}: {shortened(skipped.ids)}"


def shortened(ids: str, *, characters: int = MAX_IDS_CHARACTERS) -> str:
    """Ranges cut at a comma where they would fill the screen; the report has more of them."""
    return ids if len(ids) <= characters else ids[: ids.rfind(",", 0, characters)] + ",…"


def duration(seconds: float) -> str:
    """A time span as people say it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def unaccounted(report: Report) -> int:
    """How many ids are missing that may have been frames: with any, an account is not whole."""
    return sum(each.count for each in report.source.skipped if not each.watched)
