"""The report of a run: what `report.json` holds, what `status` answers, what the live view shows."""

from pathlib import Path

import msgspec


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the report's parts. The field names are the keys of `report.json`."""


class Frames(Part, frozen=True, kw_only=True):
    """Numbers of frames: source = collected + dropped + failed + lost. While the run lasts, `lost` are those on the way
    too; of them, `lost_for_good` do not come any more. `sent_again`: sends that repeat an earlier one, under
    at-least-once delivery. `skipped`: ids that are missing between others, none of them counted as lost;
    `source.skipped` says more."""

    source: int = 0
    received: int = 0
    processed: int = 0
    collected: int = 0
    dropped: int = 0
    failed: int = 0
    lost: int = 0
    lost_for_good: int = 0
    duplicates: int = 0
    sent_again: int = 0
    skipped: int = 0


class MissingIds(Part, frozen=True, kw_only=True):
    """Frames lost at one hop; `ids` as ranges, the first of them where there are many. `more`: how many ranges were
    left out; the file `missing_file` has all."""

    hop: str
    pool: str | None
    rank: int | None
    count: int
    ids: str
    more: int = 0


class RankReport(Part, frozen=True, kw_only=True):
    """One rank. `rate_hz`: frames processed per second: in the last seconds while the run lasts, over the streaming
    time when it is over. `node`, `local_rank`, `gpu`, `cpus`: where it
    really sits, as the rank itself says; `misplaced`: how that differs from the plan. `without_metadata`: frames that
    did not have all of their metadata when they were processed or, where the workflow says so, dropped."""

    rank: int
    host: str
    pid: int
    slot: int
    state: str
    generation: int
    processed: int
    dropped: int
    failed: int
    rate_hz: float
    queued: int
    server_overruns: int
    receiver_rejected: int
    deaths: tuple[str, ...] = ()
    without_metadata: int = 0
    node: int = 0
    local_rank: int = 0
    gpu: str = ""
    cpus: str = ""
    misplaced: str = ""


class PoolReport(Part, frozen=True, kw_only=True):
    """One pool. `max_failed`: how many frames may fail; None: the default rule. `turns`: whether frames arrived in the
    order of slots, looked at when a run is over that lost nothing; empty: not looked at."""

    name: str
    role: str
    ranks: tuple[RankReport, ...]
    turns: str = ""
    max_failed: int | None = None


class Timing(Part, frozen=True, kw_only=True):
    """Seconds; None for what did not happen. `elapsed`: since the run was started, until now or its end. `queued`:
    until the allocation began, a part of `submit_to_ready`."""

    elapsed: float | None = None
    submit_to_ready: float | None = None
    queued: float | None = None
    ready_to_first_result: float | None = None
    streaming: float | None = None
    drain: float | None = None


class Throughput(Part, frozen=True, kw_only=True):
    """Over the streaming time: results per second, and payload bytes that consumers of the source received. While the
    run lasts `frames_per_s` is of the last seconds: frames that reached their end, whatever it was."""

    frames_per_s: float = 0.0
    bytes_per_s: float = 0.0


class FailedFrameReport(Part, frozen=True, kw_only=True):
    """A frame on which the processor raised; its traceback is in the run directory."""

    pool: str
    rank: int
    id: str
    error: str
    traceback_file: str


class SkippedIds(Part, frozen=True, kw_only=True):
    """Ids between those of the frames that the run knows of, as ranges. `watched`: whether somebody watched the source
    all the time, so that it did not send them; False: it may have sent them, and they are lost then. `more`: how many
    ranges were left out of `ids`; the file `missing_file` has all."""

    watched: bool
    count: int
    ids: str
    more: int = 0


class SourceReport(Part, frozen=True, kw_only=True):
    """What the simulator reached, and what is known of a real source.

    `refused`: frames that were written to the run by RPC and did not have the structure of its source. `repeated`:
    updates that did not count, since their id (the last one: `repeated_id`) was that of the frame before, or they had
    neither time nor an id of their own. `unwitnessed`: frames that came and that the monitor of ids did not see;
    `blind`: it sees nothing at all, now. `skipped`: when the stream has ended. `epoch_begins`: first id of each life of
    the source that began in the run; what it may have sent before that nobody knows. `away_since`: seconds since 1970,
    while the source is away; `absences`, `away_s`: how often and how long it was, in all."""

    rate_hz: float | None = None
    jitter_p50_s: float | None = None
    jitter_p99_s: float | None = None
    jitter_max_s: float | None = None
    refused: int = 0
    repeated: int = 0
    repeated_id: int = 0
    unwitnessed: int = 0
    blind: bool = False
    skipped: tuple[SkippedIds, ...] = ()
    epoch_begins: str = ""
    away_since: float | None = None
    absences: int = 0
    away_s: float = 0.0


class MetadataReport(Part, frozen=True, kw_only=True):
    """One metadata channel. `matched`, `unmatched`: frames for which a value was found or not; `unusable`: updates
    without the time or id they need. What became of the frames is with the ranks (`without_metadata`)."""

    name: str
    channel: str
    updates: int = 0
    matched: int = 0
    unmatched: int = 0
    unusable: int = 0


class AllocationReport(Part, frozen=True, kw_only=True):
    """One batch job of the run, as the scheduler tells of it. `state`: waiting, running, ended, rejected or unknown;
    `reason`: why it waits, or why it ended; `position`: its place in the queue, from 1, where that can be known."""

    number: int
    job: str = ""
    state: str = "unknown"
    reason: str = ""
    position: int | None = None
    nodes: tuple[str, ...] = ()
    waited_s: float | None = None


class Verdict(Part, frozen=True, kw_only=True):
    """What a run was worth. `word`: good, good but (some frames failed, or were lost and may be), lost, not whole,
    gave nothing, too many failed, stopped or failed. `line`: the same for people. `exit_status`: of the command that
    watched it."""

    word: str
    line: str
    exit_status: int


class Report(Part, frozen=True, kw_only=True):
    """The whole report. `resumed`: how many controllers of the run were killed, and another one went on. `began`: when
    this one started it (ISO 8601, UTC). `allow_lost`: lost frames that its workflow allows. `error_status`: the exit
    status that belongs to the error with which it failed; 0: none. `verdict`: of an ended run. `missing_file`: in the
    run directory, with all ids that were lost or are missing; empty where none is."""

    run: str
    state: str
    reason: str
    workflow: str
    site: str
    delivery: str
    result_channels: tuple[str, ...]
    name_server: str
    frames: Frames
    missing: tuple[MissingIds, ...]
    failed_frames: tuple[FailedFrameReport, ...]
    pools: tuple[PoolReport, ...]
    source: SourceReport
    timing_s: Timing
    throughput: Throughput
    versions: dict[str, str]
    metadata: tuple[MetadataReport, ...] = ()
    allocations: tuple[AllocationReport, ...] = ()
    resumed: int = 0
    began: str = ""
    allow_lost: int = 0
    error_status: int = 0
    verdict: Verdict | None = None
    missing_file: str = ""


def encode_report(report: Report) -> bytes:
    """The report as JSON."""
    return msgspec.json.encode(report)


def decode_report(data: bytes) -> Report:
    """The report from JSON; msgspec.DecodeError (a ValueError) when it is none."""
    return msgspec.json.decode(data, type=Report)


def write_report(path: Path, report: Report) -> None:
    """Write `report.json` so that a reader sees all of it or nothing."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.format(encode_report(report), indent=2) + b"\n")
    partial.replace(path)
