"""Who takes part in a run, how each member is doing, and what it is told. Decides; does not act, has no clock."""

from dataclasses import dataclass, field

from beamcast.core.lifecycle import RankEvent, RankLifecycle, RankState
from beamcast.core.place import Place
from beamcast.launch.plan import RunPlan
from beamcast.pva.messages import (
    PROTOCOL_VERSION,
    Counters,
    Heartbeat,
    Input,
    MemberId,
    MemberState,
    Orders,
    RankDuty,
    Registration,
    Unwelcome,
    Welcome,
    Whereabouts,
)

SETUP_HEARTBEAT_S = 0.05
DRAIN_HEARTBEAT_S = 0.1


@dataclass(slots=True)
class MemberRecord:
    """What is known of one member, over all its lives."""

    identity: MemberId
    life: RankLifecycle = field(default_factory=RankLifecycle)
    state: MemberState | None = None
    whereabouts: Whereabouts | None = None
    place: Place | None = None
    slot: int = 0
    serves: tuple[str, ...] = ()
    heard_at: float = 0.0
    counters: Counters = field(default_factory=Counters)
    facts: dict[str, float] = field(default_factory=dict)
    last_key: int | None = None
    problem: str = ""
    problem_detail: str = ""
    problem_kind: str = ""
    deaths: list[str] = field(default_factory=list)

    @property
    def live(self) -> bool:
        """Whether its process is known to run."""
        return self.life.state.is_live

    @property
    def usable(self) -> bool:
        """Whether others may connect to what it serves."""
        return self.live and self.state in ("ready", "running", "drained")


class Roster:
    """All members of a run. Methods are called one at a time, under the controller's lock."""

    def __init__(self, plan: RunPlan) -> None:
        self._plan = plan
        self.members: dict[str, MemberRecord] = {}
        self.ranks: dict[str, list[MemberRecord]] = {}
        self._add(MemberId(kind="mirror"))
        if plan.workflow.source.simulate is not None:
            self._add(MemberId(kind="simulator"))
        if plan.workflow.results is not None:
            self._add(MemberId(kind="results"))
        for pool in plan.pools:
            ids = [MemberId(kind="rank", pool=pool.name, rank=rank) for rank in range(pool.ranks)]
            self.ranks[pool.name] = [self._add(identity) for identity in ids]
        self.was_ready = False
        self.had_result = False
        self.start = False
        self.drain = False
        self.stop = False

    def _add(self, identity: MemberId) -> MemberRecord:
        record = MemberRecord(identity=identity)
        self.members[str(identity)] = record
        return record

    def register(self, request: Registration, *, now: float) -> Welcome | Unwelcome:
        """A process asks to join."""
        record = self.members.get(str(request.member))
        if record is None:
            return Unwelcome(reason=f"this run has no member {request.member}")
        if request.versions.protocol != PROTOCOL_VERSION:
            return Unwelcome(
                reason=f"it speaks protocol {request.versions.protocol}, the controller {PROTOCOL_VERSION}: install "
                "the same beamcast on both sides"
            )
        if self.stop:
            return Unwelcome(reason="the run is ending")
        if record.live and request.member.generation <= record.identity.generation:
            return Unwelcome(reason=f"{request.member} is already running as pid {self._pid(record)}")
        if record.live:
            self.died(record, now=now, reason=f"replaced by generation {request.member.generation}")
        if record.life.state in (RankState.DEAD, RankState.FAILED):
            record.life.on(RankEvent.RESTART, at=now)
        if record.life.state is RankState.FINISHED:
            return Unwelcome(reason=f"{request.member} has already finished")
        self._join(record, request, now)
        return Welcome(heartbeat_s=SETUP_HEARTBEAT_S, duty=self._duty(record))

    def _join(self, record: MemberRecord, request: Registration, now: float) -> None:
        record.life.on(RankEvent.REGISTER, at=now)
        record.identity = request.member
        record.whereabouts = request.whereabouts
        record.heard_at = now
        record.state = "registered"
        record.serves = ()
        record.problem = record.problem_detail = record.problem_kind = ""
        if request.member.kind == "rank":
            where = request.whereabouts
            record.place = Place(
                rank=request.member.rank,
                size=where.size,
                node=where.node or where.host,
                node_index=where.node_index,
                nodes=where.nodes,
                local_rank=where.local_rank,
                local_size=where.local_size,
            )

    @staticmethod
    def _pid(record: MemberRecord) -> int:
        return record.whereabouts.pid if record.whereabouts else 0

    def _duty(self, record: MemberRecord) -> RankDuty | None:
        if record.place is None:
            return None
        pool = self._plan.pool(record.identity.pool)
        channels = self._plan.channels(pool.name, record.identity.rank)
        if pool.role == "consumer":
            record.slot = self._plan.slot(pool, record.place).turn
        else:
            record.slot = record.identity.rank
        return RankDuty(
            rank=record.identity.rank,
            pool=pool,
            source=self._plan.workflow.source,
            base=str(self._plan.base),
            slot=record.slot,
            output_channel=channels.output,
            status_channel=channels.status,
            control_channel=channels.control,
        )

    def heartbeat(self, beat: Heartbeat, *, now: float) -> Orders | Unwelcome:
        """A member reports; returns what it is to do."""
        record = self.members.get(str(beat.member))
        if record is None or record.identity.generation != beat.member.generation:
            return Unwelcome(reason=f"{beat.member} is not of this run any more")
        if not record.live:
            return Unwelcome(reason=f"{beat.member} was given up: {self._last_death(record)}")
        record.heard_at = now
        record.serves = beat.serves
        record.counters = beat.counters
        record.facts = beat.facts or record.facts
        record.last_key = beat.last_key if beat.last_key is not None else record.last_key
        self._move(record, beat, now)
        return self._orders(record)

    @staticmethod
    def _last_death(record: MemberRecord) -> str:
        return record.deaths[-1] if record.deaths else record.life.state.value

    def _move(self, record: MemberRecord, beat: Heartbeat, now: float) -> None:
        record.state = beat.state
        if beat.state == "failed":
            record.problem, record.problem_detail = beat.problem, beat.problem_detail
            record.problem_kind = beat.problem_kind
            record.life.on(RankEvent.FAIL, at=now, reason=beat.problem or "no reason given")
            return
        if beat.state in ("ready", "running", "drained") and record.life.state is RankState.REGISTERED:
            record.life.on(RankEvent.CONNECT, at=now)
            record.life.on(RankEvent.PROBE, at=now)
        if beat.state == "finished":
            record.life.on(RankEvent.FINISH, at=now)

    def _orders(self, record: MemberRecord) -> Orders:
        settled = self.had_result and record.usable
        period = float(self._plan.workflow.deadlines.heartbeat) if settled else SETUP_HEARTBEAT_S
        if self.drain or self.stop:
            period = DRAIN_HEARTBEAT_S
        is_mirror = record.identity.kind in ("mirror", "results")
        return Orders(
            connect=self._inputs(record),
            # A mirror's start means: your channel can be found now, watch it.
            start=bool(record.serves) if is_mirror else self.start,
            drain=self.drain,
            stop=self.stop,
            heartbeat_s=period,
        )

    def _inputs(self, record: MemberRecord) -> tuple[Input, ...] | None:
        """What the rank may connect to now; None while it has to wait for its inputs or its turn."""
        if record.place is None:
            return None
        pool = self._plan.pool(record.identity.pool)
        if pool.input == "source":
            if not self.members["mirror"].usable:
                return None
            generations: list[int] = []
        else:
            producers = self.ranks[pool.input]
            if not self.was_ready and not all(producer.usable for producer in producers):
                return None
            generations = [producer.identity.generation for producer in producers]
        # The distributor hands out turns in the order of connection: one rank after the other.
        before = self.ranks[pool.name][: record.identity.rank]
        if not self.was_ready and not all(other.usable for other in before):
            return None
        return self._plan.inputs(pool, record.place, generations)

    def died(self, record: MemberRecord, *, now: float, reason: str) -> None:
        """A member is gone: silent for too long, or whoever started it says so."""
        if record.live or record.life.state is RankState.EXPECTED:
            record.life.on(RankEvent.DIE, at=now, reason=reason)
            record.deaths.append(reason)
            record.serves = ()

    def silent(self, *, now: float, silence_s: float) -> list[MemberRecord]:
        """Members that live as far as we know and have not been heard for too long."""
        return [
            record for record in self.members.values() if record.live and now - record.heard_at > silence_s
        ]

    def all_ready(self) -> bool:
        """Whether every member's monitor has received an update, so that the first frame may come."""
        return all(record.usable for record in self.members.values())

    def waiting_for(self) -> list[str]:
        """Members that are not ready, with their states."""
        return [
            f"{record.identity} ({record.state or record.life.state})"
            for record in self.members.values()
            if not record.usable
        ]

    def all_drained(self) -> bool:
        """Whether every live rank says that nothing waits in it."""
        return all(
            record.state == "drained" for records in self.ranks.values() for record in records if record.live
        )

    def all_gone(self) -> bool:
        """Whether no member runs any more."""
        return not any(record.live for record in self.members.values())

    def problems(self) -> list[MemberRecord]:
        """Members that said they can't go on."""
        return [record for record in self.members.values() if record.life.state is RankState.FAILED]
