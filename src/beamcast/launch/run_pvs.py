"""The run's own PVs at the beamline: what it is doing, as NTScalar and NTTable, and what it may be told.

Under the run's prefix: `state`, `reason`, `source_state`, `rate`, `frames:<number>`, `pools` (a table), `control` in
PvaPy's form, the same as two texts, `command` and `answer`, `drain` and `stop` (write 1), and `PVI`. For each pool
`<pool>:ranks` (a table), and `control`, `command`, `answer`, `drain`, `stop` and `PVI` in the same way.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from beamcast.core.commands import REFUSED, Outcome, parse_line
from beamcast.core.errors import UsageError
from beamcast.core.lifecycle import RankState
from beamcast.observe.report import PoolReport, Report
from beamcast.pva.control_pv import ControlPv, Take
from beamcast.pva.normative import NO_ALARM, Alarm, Entry, OrderRecord, ScalarRecord, TableRecord, add_pvi

MINOR, MAJOR = 1, 2
# Each number of frames, with what its PV says that it is.
_NUMBERS: Mapping[str, str] = {
    "source": "frames that the source sent since the run was ready",
    "received": "frames that reached a pool that reads the source",
    "processed": "frames that left such a pool",
    "collected": "frames whose result has left the run",
    "dropped": "frames for which a processor chose no output",
    "failed": "frames whose processor raised",
    "outstanding": "frames on their way",
    "lost": "frames that are lost and do not come any more",
    "duplicates": "repeated frames that ranks have discarded",
}
_RANKS: Mapping[str, type] = {
    "rank": int,
    "host": str,
    "state": str,
    "generation": int,
    "processed": int,
    "dropped": int,
    "failed": int,
    "rate_hz": float,
    "queued": int,
    "server_overruns": int,
    "receiver_rejected": int,
}
_SUMMED = ("processed", "dropped", "failed", "rate_hz", "queued", "server_overruns", "receiver_rejected")
_POOLS: Mapping[str, type] = {
    "pool": str,
    "role": str,
    "ranks": int,
    "live": int,
    **{name: _RANKS[name] for name in _SUMMED},
}
_TEXTS = ("state", "reason", "source_state")
_ORDERS = ("drain", "stop")
# As ranks stand in a report, which has a word more: one that has left its pool.
_LIVE = frozenset(state.value for state in RankState if state.is_live)


class Desk:
    """Where commands to the run or to one pool come in. `take` is told of them, on a pvAccess thread."""

    def __init__(self, server: Any, stem: str, take: Take) -> None:
        self._take = take
        self._control = ControlPv(server, f"{stem}:control", take=take)
        self._answer = ScalarRecord(server, f"{stem}:answer", str)
        self._written = [OrderRecord(server, f"{stem}:command", str, written=self._line)]
        self._written += [
            OrderRecord(server, f"{stem}:{name}", int, written=self._ordered(name)) for name in _ORDERS
        ]
        self.channels = tuple(f"{stem}:{name}" for name in ("control", "answer", "command", *_ORDERS))
        self.entries: dict[str, Entry] = {
            "command": {"rw": f"{stem}:command"},
            "answer": {"r": f"{stem}:answer"},
            # ophyd-async keeps the name `stop` of a device for itself.
            **{f"{name}_" if name == "stop" else name: {"x": f"{stem}:{name}"} for name in _ORDERS},
        }

    def look(self) -> None:
        """Take commands that were written without a call back."""
        self._control.look()
        for record in self._written:
            record.look()

    def _ordered(self, name: str) -> Callable[[Any], None]:
        return lambda value: self._line(name)

    def _line(self, text: Any) -> None:
        try:
            self._take(parse_line(str(text)), self._say)
        except UsageError as refused:
            self._say(Outcome(REFUSED, str(refused)))

    def _say(self, outcome: Outcome) -> None:
        self._answer.set(outcome.message if outcome.done else f"error: {outcome.message}")


class RunPvs:
    """Serves the PVs; `update` fills them."""

    def __init__(
        self, server: Any, prefix: str, pools: Sequence[str], *, take: Callable[[str | None], Take]
    ) -> None:
        """`take(pool)` gives what carries out commands to a pool, or with None to the run."""
        self._scalars = {name: ScalarRecord(server, f"{prefix}:{name}", str) for name in _TEXTS}
        self._scalars["rate"] = ScalarRecord(
            server, f"{prefix}:rate", float, units="frames/s", description="results per second"
        )
        self._numbers = {
            name: ScalarRecord(server, f"{prefix}:frames:{name}", int, units="frames", description=what)
            for name, what in _NUMBERS.items()
        }
        self._pools = TableRecord(server, f"{prefix}:pools", _POOLS)
        self._ranks = {pool: TableRecord(server, f"{prefix}:{pool}:ranks", _RANKS) for pool in pools}
        desk = Desk(server, prefix, take(None))
        desks = {pool: Desk(server, f"{prefix}:{pool}", take(pool)) for pool in pools}
        for pool, one in desks.items():
            ranks: Entry = {"r": self._ranks[pool].channel}
            add_pvi(
                server, f"{prefix}:{pool}:PVI", {"ranks": ranks, **one.entries}, description=f"pool {pool}"
            )
        records: dict[str, ScalarRecord | TableRecord] = {
            **self._scalars,
            **self._numbers,
            "pools": self._pools,
        }
        entries: dict[str, Entry] = {name: {"r": record.channel} for name, record in records.items()}
        entries |= desk.entries
        for name, pool in _as_names(pools).items():
            entries[name] = {"d": f"{prefix}:{pool}:PVI"}
        add_pvi(server, f"{prefix}:PVI", entries, description=f"beamcast run {prefix}")
        tables = (record.channel for record in self._ranks.values())
        self._desks = (desk, *desks.values())
        commanded = (channel for one in self._desks for channel in one.channels)
        trees = (f"{prefix}:PVI", *(f"{prefix}:{pool}:PVI" for pool in pools))
        self.channels = (*(record.channel for record in records.values()), *tables, *commanded, *trees)

    def look(self) -> None:
        """Take commands that were written without a call back; as often as an answer may be waited for."""
        for desk in self._desks:
            desk.look()

    def update(self, report: Report) -> None:
        """Publish what has changed."""
        self._scalars["state"].set(report.state, state_alarm(report))
        self._scalars["source_state"].set(*source_state(report))
        self._scalars["reason"].set(report.reason)
        self._scalars["rate"].set(report.throughput.frames_per_s)
        for name, (number, alarm) in frame_numbers(report).items():
            self._numbers[name].set(number, alarm)
        self._pools.set([_pool_row(pool) for pool in report.pools])
        for pool in report.pools:
            self._ranks[pool.name].set([[getattr(rank, name) for name in _RANKS] for rank in pool.ranks])


def frame_numbers(report: Report) -> dict[str, tuple[int, Alarm]]:
    """The numbers of frames as PVs show them. Frames on their way are not lost: an alarm would come and go."""
    frames, lost = report.frames, report.frames.lost_for_good
    numbers = {name: getattr(frames, name, 0) for name in _NUMBERS}
    numbers |= {"lost": lost, "outstanding": frames.lost - lost}
    alarms = {
        "lost": Alarm(MAJOR if lost > report.allow_lost else MINOR, "frames are lost") if lost else NO_ALARM,
        "failed": Alarm(MINOR, "a processor raised") if frames.failed else NO_ALARM,
    }
    return {name: (number, alarms.get(name, NO_ALARM)) for name, number in numbers.items()}


def state_alarm(report: Report) -> Alarm:
    """A run that has failed is an alarm, one that was cancelled a small one."""
    severity = {"failed": MAJOR, "cancelled": MINOR}.get(report.state, 0)
    return Alarm(severity, f"the run is {report.state}") if severity else NO_ALARM


def source_state(report: Report) -> tuple[str, Alarm]:
    """Whether the source is there, with an alarm where it is not, or where its frames do not count."""
    source = report.source
    if source.away_since is not None:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(source.away_since))
        return f"away since {since}", Alarm(MAJOR, "the source is away")
    if source.blind:
        return "present, and its ids are not seen", Alarm(MAJOR, "frames may be lost without being counted")
    if source.repeated:
        return "present, and repeats ids", Alarm(MINOR, "updates that repeat an id do not count")
    return "present", NO_ALARM


def _pool_row(pool: PoolReport) -> list[Any]:
    live = sum(rank.state in _LIVE for rank in pool.ranks)
    sums = [sum(getattr(rank, name) for rank in pool.ranks) for name in _SUMMED]
    return [pool.name, pool.role, len(pool.ranks), live, *sums]


def _as_names(pools: Sequence[str]) -> dict[str, str]:
    """The pools by names that a field of a structure, and an attribute in Python, may have."""
    names: dict[str, str] = {}
    for pool in pools:
        name = f"pool_{pool.replace('-', '_')}"
        names[name if name not in names else f"{name}_{len(names)}"] = pool
    return names
