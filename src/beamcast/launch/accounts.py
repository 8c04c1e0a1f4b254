"""The books of a run: heartbeats go in, the report comes out."""

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pyroaring import BitMap64

from beamcast.core.errors import DataError, TooManyFailed
from beamcast.core.failures import failed_text, gives_up
from beamcast.core.ids import first_ranges, format_ranges
from beamcast.core.keyset import decode_keys
from beamcast.core.ledger import FrameTotals, Ledger, Missing, RankCounts
from beamcast.launch.lost_for_good import LostForGood
from beamcast.launch.plan import RunPlan
from beamcast.launch.roster import MemberRecord, Roster
from beamcast.launch.rundir.books import VERSION, Books
from beamcast.launch.source_account import source_report
from beamcast.launch.turn_check import turns_of
from beamcast.observe.rates import RecentRates
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
from beamcast.observe.verdict import FINAL, failure_text
from beamcast.pva.messages import Delta, FailedFrame, Heartbeat, MemberId

logger = logging.getLogger(__name__)

# A report stays readable. What is not in its list is in its counts.
MAX_MISSING_RANGES = 1000
MAX_KEPT_FAILED_FRAMES = 1000
# So many files in `failed/`: they are read by people, and a file for each frame of a long run would fill the disk.
MAX_TRACEBACK_FILES = 100


@dataclass(slots=True)
class Moments:
    """When things happened, in seconds of the monotonic clock; None: not yet. `began`: the same as `submitted`, by the
    calendar."""

    submitted: float
    began: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    allocated: float | None = None
    ready: float | None = None
    started: float | None = None
    first_result: float | None = None
    stream_end: float | None = None
    drained: float | None = None
    ended: float | None = None

    def timing(self) -> Timing:
        """The durations between them."""

        def between(first: float | None, second: float | None) -> float | None:
            return None if first is None or second is None else round(second - first, 6)

        now = time.monotonic()
        return Timing(
            elapsed=between(self.submitted, self.ended or now),
            submit_to_ready=between(self.submitted, self.ready),
            queued=between(self.submitted, self.allocated),
            ready_to_first_result=between(self.ready, self.first_result),
            streaming=between(self.started, self.stream_end or now),
            drain=between(self.stream_end, self.drained),
        )


@dataclass(slots=True)
class Accounts:
    """Ledger, kept failures and moments of one run. Under the controller's lock."""

    plan: RunPlan
    run_dir: Path
    ledger: Ledger
    moments: Moments
    failed_frames: list[FailedFrameReport] = field(default_factory=list)
    changed_at: float = 0.0
    rates: RecentRates = field(default_factory=RecentRates)

    gone: LostForGood = field(default_factory=LostForGood)
    resumed: int = 0
    had_frames: bool = False
    # Whose witness at the source spoke last, and of which frame.
    witness: tuple[int, int] = (0, 0)

    @classmethod
    def open(cls, plan: RunPlan, run_dir: Path, before: Books | None = None) -> "Accounts":
        """Empty books, or those of a controller that is gone; DataError where they are of other pools."""
        results = plan.workflow.results
        ledger = Ledger(
            [plan.shape(pool) for pool in plan.pools],
            results.pool if results else None,
            watch_results=results is not None,
        )
        made = cls(plan=plan, run_dir=run_dir, ledger=ledger, moments=Moments(submitted=time.monotonic()))
        if before is not None:
            made._take_up(before)
        return made

    def _take_up(self, before: Books) -> None:
        self.resumed = before.resumed + 1
        self.failed_frames = list(before.failed_frames)
        if before.ledger is None:
            return
        self.had_frames = True
        try:
            self.ledger.take_up(before.ledger)
        except ValueError as error:
            raise DataError(f"the books of the run do not fit its workflow: {error}") from error

    @property
    def _frames_count(self) -> bool:
        """Whether the run's first frame is known, to this controller or to one before it."""
        return self.moments.started is not None or self.had_frames

    def books(self) -> Books:
        """What the next controller has to know, should this one be killed."""
        return Books(
            version=VERSION,
            run=self.plan.run,
            base=str(self.plan.base),
            resumed=self.resumed,
            ledger=self.ledger.state() if self._frames_count else None,
            failed_frames=tuple(self.failed_frames),
        )

    def enter(self, beat: Heartbeat, *, now: float) -> None:
        """Take what a heartbeat reports; ValueError for a set of ids that can't be read."""
        delta, pool, rank = beat.delta, beat.member.pool, beat.member.rank
        if beat.member.kind == "rank":
            self.ledger.duplicates(pool, rank, beat.counters.duplicates)
        for frame in beat.failed_frames:
            self._keep(frame, pool, rank)
        if delta == Delta():
            return
        self.changed_at = now
        if delta.seen:
            self._enter_seen(beat.member, decode_keys(delta.seen))
        if delta.unsure:
            self.ledger.unsure(decode_keys(delta.unsure))
        if delta.mirrored:
            self.ledger.mirrored(decode_keys(delta.mirrored))
        if delta.delivered:
            self.ledger.delivered(decode_keys(delta.delivered))
        if beat.member.kind == "mirror" and delta.failed:
            # Frames that the dispatcher has given up. Some killed their ranks, so that no rank could say so.
            first = next(pool.name for pool in self.plan.pools if pool.input == "source")
            self.ledger.failed(first, 0, decode_keys(delta.failed))
        for name, ranks in delta.acked.items():
            for told, keys in ranks.items():
                self.ledger.processed(name, told, decode_keys(keys.processed))
                self.ledger.dropped(name, told, decode_keys(keys.dropped))
        if beat.member.kind == "rank":
            self._enter_rank(delta, pool, rank)

    def _enter_seen(self, member: MemberId, keys: BitMap64) -> None:
        """What a witness at the source has seen. While one is started again, nobody looks."""
        if not self.plan.dispatches and keys and member.kind in ("mirror", "metadata"):
            generation, last = self.witness
            if member.generation > generation and last:
                self.ledger.unwatched(last, keys.min())
            self.witness = (member.generation, keys.max())
        self.ledger.source(keys)

    def _enter_rank(self, delta: Delta, pool: str, rank: int) -> None:
        if delta.gathered:
            producers = self.plan.producers(self.plan.pool(pool))
            for producer, keys in delta.gathered.items():
                self.ledger.arrived(pool, producers[producer], decode_keys(keys))
        if delta.received:
            self.ledger.received(pool, rank, decode_keys(delta.received))
        if delta.processed:
            self.ledger.processed(pool, rank, decode_keys(delta.processed))
        if delta.dropped:
            self.ledger.dropped(pool, rank, decode_keys(delta.dropped))
        if delta.failed:
            self.ledger.failed(pool, rank, decode_keys(delta.failed))

    def _keep(self, frame: FailedFrame, pool: str, rank: int) -> None:
        if len(self.failed_frames) >= MAX_KEPT_FAILED_FRAMES:
            return
        name = format_ranges([frame.key]).replace(":", "-")
        # A heartbeat whose answer was lost comes again.
        if any((kept.pool, kept.rank, kept.id) == (pool, rank, name) for kept in self.failed_frames):
            return
        error = frame.traceback.strip().rpartition("\n")[2].removeprefix(f"{DataError.__module__}.")
        file = self._traceback_file(frame.traceback, pool=pool, rank=rank, name=name, error=error)
        self.failed_frames.append(
            FailedFrameReport(pool=pool, rank=rank, id=name, error=error, traceback_file=file)
        )

    def _traceback_file(self, text: str, *, pool: str, rank: int, name: str, error: str) -> str:
        """Where the traceback is: in a new file, or past their number in that of an earlier frame with the same error;
        "" where there is none."""
        files = {kept.traceback_file: kept for kept in self.failed_frames if kept.traceback_file}
        if len(files) >= MAX_TRACEBACK_FILES:
            alike = (file for file, kept in files.items() if (kept.pool, kept.error) == (pool, error))
            return next(alike, "")
        path = self.run_dir / "failed" / f"{pool}-{rank}-{name}.txt"
        with suppress(OSError):  # its last line is in the report in any case
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if len(files) == MAX_TRACEBACK_FILES - 1:
            logger.warning(
                "failed/ holds %d tracebacks: no more are written; report.json lists the first %d failed frames",
                MAX_TRACEBACK_FILES,
                MAX_KEPT_FAILED_FRAMES,
            )
        return str(path.relative_to(self.run_dir))

    def check_failed(self) -> None:
        """Raise TooManyFailed when more frames of a pool have failed than its `max_failed` allows."""
        for pool in self.plan.pools:
            # Asked twenty times a second: the ranks are counted where there is something to count.
            kept = next((frame for frame in self.failed_frames if frame.pool == pool.name), None)
            if kept is None and pool.max_failed is None:
                continue
            counts = [self.ledger.rank_counts(pool.name, rank) for rank in range(pool.ranks)]
            failed = sum(count.failed for count in counts)
            well = sum(count.processed + count.dropped for count in counts)
            if gives_up(failed=failed, well=well, max_failed=pool.max_failed):
                example = f": {failure_text(kept, where=True)}" if kept else ""
                told = failed_text(failed=failed, pool=pool.name, max_failed=pool.max_failed)
                raise TooManyFailed(f"{told}{example}")

    def report(
        self, roster: Roster, *, state: str, reason: str, name_server: str, versions: dict[str, str]
    ) -> Report:
        """Everything that is known now."""
        totals = self.ledger.totals()
        if state in FINAL and self.moments.ended is None:
            self.moments.ended = time.monotonic()
        timing = self.moments.timing()
        seconds = timing.streaming or 0.0
        counts = self._counts(roster)
        rates = {} if state in FINAL else self._rates(totals, counts)
        over = self.moments.drained is not None and not totals.lost
        return Report(
            run=self.plan.run,
            state=state,
            reason=reason,
            workflow=self.plan.workflow.name,
            site=self.plan.site.name,
            delivery=self.plan.workflow.delivery,
            result_channels=tuple(self.plan.results().values()),
            name_server=name_server,
            frames=_frames(
                totals, sent_again=_sent_again(roster), lost_for_good=self._lost_for_good(roster, totals)
            ),
            missing=self._missing() if self.moments.stream_end is not None else (),
            failed_frames=tuple(self.failed_frames),
            pools=tuple(
                PoolReport(
                    name=pool.name,
                    role=pool.role,
                    ranks=tuple(
                        self._rank(record, counts, seconds, rates) for record in roster.ranks[pool.name]
                    ),
                    max_failed=pool.max_failed,
                    turns=turns_of(self.plan, pool, roster.ranks[pool.name], self.ledger)
                    if over and pool.name not in roster.reshaped
                    else "",
                )
                for pool in self.plan.pools
            ),
            source=self.source(roster),
            timing_s=timing,
            throughput=self._throughput(roster, totals, seconds, rates),
            versions=versions,
            metadata=self._metadata(roster),
            resumed=self.resumed,
            began=self.moments.began,
            allow_lost=self.plan.workflow.allow_lost,
        )

    def _counts(self, roster: Roster) -> dict[MemberId, RankCounts]:
        members = [record.identity for ranks in roster.ranks.values() for record in ranks]
        return {member: self.ledger.rank_counts(member.pool, member.rank) for member in members}

    def _rates(self, totals: FrameTotals, counts: Mapping[MemberId, RankCounts]) -> dict[str, float]:
        """Frames per second in the last seconds: of the run ("") and of each rank ("stats/0")."""
        ended = totals.collected + totals.dropped + totals.failed
        processed = {str(member): count.processed for member, count in counts.items()}
        return self.rates.look({"": ended, **processed}, now=time.monotonic())

    def _lost_for_good(self, roster: Roster, totals: FrameTotals) -> int:
        if self.moments.drained is not None or not totals.lost:
            return totals.lost
        now = time.monotonic()
        found = self.gone.count(self.ledger, roster, dispatches=self.plan.dispatches, now=now)
        return min(found, totals.lost)

    def _missing(self) -> tuple[MissingIds, ...]:
        return tuple(_missing_ids(missing) for missing in self.ledger.missing())

    def _rank(
        self,
        record: MemberRecord,
        all_counts: Mapping[MemberId, RankCounts],
        seconds: float,
        rates: Mapping[str, float],
    ) -> RankReport:
        counts = all_counts[record.identity]
        where = record.whereabouts
        mean = counts.processed / seconds if seconds else 0.0
        return RankReport(
            rank=record.identity.rank,
            host=where.host if where else "",
            pid=where.pid if where else 0,
            slot=record.slot,
            state="left" if record.has_left else record.life.state.value,
            generation=record.identity.generation,
            processed=counts.processed,
            dropped=counts.dropped,
            failed=counts.failed,
            rate_hz=round(rates.get(str(record.identity), mean), 3),
            queued=record.counters.queued,
            server_overruns=record.counters.server_overruns,
            receiver_rejected=record.counters.receiver_rejected,
            deaths=tuple(record.deaths),
            without_metadata=record.counted("metadata_unmatched"),
            node=where.node_index if where else 0,
            local_rank=where.local_rank if where else 0,
            gpu=where.gpu_name if where else "",
            cpus=where.cpus if where else "",
            misplaced=record.misplaced,
        )

    def _metadata(self, roster: Roster) -> tuple[MetadataReport, ...]:
        member = roster.members.get("metadata")
        if member is None:
            return ()
        counts = ("updates", "matched", "unmatched", "unusable")
        return tuple(
            MetadataReport(
                name=each.name,
                channel=each.channel,
                **{count: member.counted(f"{count}:{each.name}") for count in counts},
            )
            for each in self.plan.workflow.metadata
        )

    def source(self, roster: Roster) -> SourceReport:
        """What is known of the source."""
        return source_report(
            roster,
            self.ledger,
            ended=self.moments.stream_end is not None,
            watched=self.plan.workflow.source.protocol == "pva",
        )

    def _throughput(
        self, roster: Roster, totals: FrameTotals, seconds: float, rates: Mapping[str, float]
    ) -> Throughput:
        if not seconds:
            return Throughput()
        first = [pool.name for pool in self.plan.pools if pool.input == "source"]
        received = sum(record.counters.bytes_received for name in first for record in roster.ranks[name])
        return Throughput(
            frames_per_s=round(rates.get("", totals.collected / seconds), 3),
            bytes_per_s=round(received / seconds, 1),
        )


def _missing_ids(missing: Missing) -> MissingIds:
    ids, more = first_ranges(missing.keys, MAX_MISSING_RANGES)
    return MissingIds(
        hop=missing.hop, pool=missing.pool, rank=missing.rank, count=len(missing.keys), ids=ids, more=more
    )


def _frames(totals: FrameTotals, *, sent_again: int, lost_for_good: int) -> Frames:
    return Frames(
        source=totals.source,
        received=totals.received,
        processed=totals.processed,
        collected=totals.collected,
        dropped=totals.dropped,
        failed=totals.failed,
        lost=totals.lost,
        lost_for_good=lost_for_good,
        duplicates=totals.duplicates,
        sent_again=sent_again,
        skipped=totals.skipped,
    )


def _sent_again(roster: Roster) -> int:
    return int(roster.members["mirror"].facts.get("sent_again", 0))
