"""What the report says of the source: its absences, updates that do not count, what is missing between its ids."""

from collections.abc import Iterable

import msgspec

from beamcast.core.ids import format_ranges, format_run
from beamcast.core.keyset import Gap
from beamcast.core.ledger import Ledger
from beamcast.launch.roster import MemberRecord, Roster
from beamcast.observe.report import SkippedIds, SourceReport

# As many as a report has of missing frames.
MAX_RANGES = 1000


def source_report(roster: Roster, ledger: Ledger, *, ended: bool, watched: bool) -> SourceReport:
    """All of it. `ended`: the stream has ended, so that what is missing is settled. `watched`: some member of the run
    tells which ids the source sent."""
    intake = roster.members.get("intake")
    base = SourceReport(refused=intake.counted("refused") if intake is not None else 0)
    if (simulator := roster.members.get("simulator")) is not None:
        return msgspec.convert(simulator.facts, SourceReport)
    return msgspec.structs.replace(
        base,
        **_ignored(_watchers(roster)),
        **_presence(roster.members["mirror"]),
        **(_missing(ledger) if ended else {}),
        unwitnessed=ledger.unwitnessed() if ended and watched else 0,
        blind=any(record.facts.get("blind") for record in _watchers(roster)),
    )


def _watchers(roster: Roster) -> list[MemberRecord]:
    return [roster.members[name] for name in ("metadata", "mirror") if name in roster.members]


def _ignored(watchers: list[MemberRecord]) -> dict[str, int]:
    """Both may watch the same source: the one that has seen more has seen what the other has."""
    most = max(watchers, key=lambda record: record.counted("repeated"))
    return {"repeated": most.counted("repeated"), "repeated_id": int(most.facts.get("repeated_id", 0))}


def _presence(mirror: MemberRecord) -> dict[str, float | int | None]:
    return {
        "away_since": mirror.facts.get("away_since") or None,
        "absences": mirror.counted("absences"),
        "away_s": round(mirror.past.get("away_s", 0.0) + mirror.facts.get("away_s", 0.0), 3),
    }


def _missing(ledger: Ledger) -> dict[str, object]:
    by_watch: dict[bool, list[Gap]] = {}
    for gap, watched in ledger.skipped():
        by_watch.setdefault(watched, []).append(gap)
    return {
        "skipped": tuple(_skipped(by_watch[watched], watched) for watched in sorted(by_watch)),
        "epoch_begins": ",".join(format_ranges([key]) for key in ledger.epoch_begins()),
    }


def _skipped(gaps: list[Gap], watched: bool) -> SkippedIds:
    return SkippedIds(
        watched=watched,
        count=sum(gap.last - gap.first + 1 for gap in gaps),
        ids=ranges_text(gaps[:MAX_RANGES]),
        more=max(0, len(gaps) - MAX_RANGES),
    )


def ranges_text(gaps: Iterable[Gap]) -> str:
    """As `format_ranges`, of any width."""
    return ",".join(format_run(gap.first, gap.last) for gap in gaps)
