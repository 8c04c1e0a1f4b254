"""What is said of the source of a run."""

import time

import msgspec

from beamcast.observe.report import Frames, Report, SkippedIds, SourceReport
from beamcast.observe.source_lines import source_lines
from beamcast.observe.verdict import GOOD, LOST, verdict_of
from unit.observe.test_observe_tables import report


def of(source: SourceReport) -> Report:
    return msgspec.structs.replace(report(), state="done", source=source)


def test_a_source_that_is_there_and_whole_is_not_mentioned() -> None:
    assert source_lines(of(SourceReport())) == []


def test_a_source_that_is_away_is_told_with_since_when() -> None:
    """P6."""
    now = time.mktime((2026, 11, 30, 14, 5, 12, 0, 0, -1))
    (line,) = source_lines(of(SourceReport(away_since=now - 120, absences=1, away_s=120.0)), now=now)
    assert line == "source: away since 14:03:12 (2 min)"
    (line,) = source_lines(of(SourceReport(absences=2, away_s=31.4)))
    assert line == "source: it was away 2 times, for 31 s in all"


def test_updates_that_do_not_count_are_told() -> None:
    """C10."""
    (line,) = source_lines(of(SourceReport(repeated=20)))
    assert line.startswith("20 updates of the source repeat the id of the one before (at last 0)")


def test_an_account_without_a_witness_is_not_whole() -> None:
    """I1."""
    whole = of(SourceReport(skipped=(SkippedIds(watched=True, count=3, ids="5-7"),)))
    whole = msgspec.structs.replace(whole, frames=Frames(source=9, collected=9))
    good = verdict_of(whole)
    assert good is not None
    assert good.exit_status == GOOD
    assert source_lines(whole) == ["3 ids are missing that the source's channel did not send: 5-7"]
    unsure = SourceReport(skipped=(SkippedIds(watched=False, count=3, ids="5-7"),))
    for source, why in (
        (unsure, "3 ids are missing between the frames"),
        (SourceReport(unwitnessed=9), "nobody saw which frames the source sent"),
    ):
        verdict = verdict_of(msgspec.structs.replace(whole, source=source))
        assert verdict is not None
        assert verdict.exit_status == LOST
        assert why in verdict.line
