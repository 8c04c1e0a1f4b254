"""Who takes part in a run, how each member is doing, and what it is told. Decides; does not act, has no clock."""

from dataclasses import dataclass, field

from msgspec import structs

from beamcast.core.ids import ID_BITS
from beamcast.core.lifecycle import RankEvent, RankLifecycle, RankState
from beamcast.core.place import Place
from beamcast.launch.hardware import misplaced, planned_seats
from beamcast.launch.numbering import Numbering, first_of_latest
from beamcast.launch.plan import RunPlan
from beamcast.launch.turn import Turns, takes_turns
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

# Before the stream begins orders follow each other and the user waits: members ask often. An exchange costs the
# controller about 0.2 ms, so thousands of members have to ask less often.
SETUP_HEARTBEAT_S = 0.05
SETUP_HEARTBEAT_S_PER_MEMBER = 0.0005
DRAIN_HEARTBEAT_S = 0.1
DRAIN_HEARTBEAT_S_PER_MEMBER = 0.00025
DISPATCHER_HEARTBEAT_S = 0.1
# A result that a collector published before it died has reached the beamline after this time.
RESULTS_SETTLE_S = 0.3
# Whose facts are counts, which go on in the next life.
COUNTING = ("rank", "metadata", "intake", "mirror")
# Deaths are told again and again until the dispatcher has heard of them: the last ones suffice.
MAX_TOLD = 1000


@dataclass(frozen=True, slots=True)
class Told:
    """What a member was told to probe and to connect to, in the answer to its heartbeat `sequence`."""

    sequence: int
    probe: tuple[Input, ...] | None
    connect: tuple[Input, ...] | None


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
    # The last generation whose output could be found; readers stay with it until the next one serves.
    served_generation: int = 0
    # How often its record was made anew, in all generations, and the last time: generation and number.
    renewals: int = 0
    renewed: tuple[int, int] = (0, 0)
    has_come: bool = False
    has_served: bool = False
    heard_at: float = 0.0
    counters: Counters = field(default_factory=Counters)
    facts: dict[str, float] = field(default_factory=dict)
    # What its earlier lives had counted.
    past: dict[str, float] = field(default_factory=dict)
    last_key: int | None = None
    numbering: Numbering = field(default_factory=Numbering)
    follows: dict[int, int] = field(default_factory=dict)
    counts_from: int | None = None
    epoch: int = 0
    next_epoch: int = 0
    ends_epoch: bool = False
    registered_at: float = 0.0
    # The mirror's generation and renewals, and what this rank reads from it.
    from_mirror: tuple[tuple[int, int, int | None], tuple[Input, ...]] | None = None
    # The last news about its inputs.
    told: Told | None = None
    # What the name servers know of it.
    named: tuple[object, ...] = ()
    # How its place differs from the plan; empty where it does not.
    misplaced: str = ""
    problem: str = ""
    problem_detail: str = ""
    problem_kind: str = ""
    deaths: list[str] = field(default_factory=list)
    # Nobody saw its end, it was not heard any more; a link that was cut has two ends.
    only_silent: bool = False
    # Its pool is made smaller: it is to leave; it may go now.
    leaving: bool = False
    dismissed: bool = False
    # It is not started again where it was.
    given_up: bool = False
    # It is started elsewhere, and those of its old place that still come are not wanted.
    least_generation: int = 0
    # Whether others may call it.
    has_service: bool = False

    @property
    def live(self) -> bool:
        """Whether its process is known to run."""
        return self.life.state.is_live

    def counted(self, name: str) -> int:
        """A fact that counts something, over all lives; for the kinds of `COUNTING`."""
        return int(self.past.get(name, 0) + self.facts.get(name, 0))

    @property
    def has_left(self) -> bool:
        """Whether it was told to leave its pool, and is gone."""
        return self.leaving and not self.live

    @property
    def is_absent(self) -> bool:
        """Whether it is gone, for whatever reason, and nobody starts it again."""
        return self.has_left or self.given_up or (self.life.state is RankState.FINISHED)

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
        if plan.workflow.source.mode != "monitor":
            self._add(MemberId(kind="intake"))
        if plan.workflow.metadata:
            self._add(MemberId(kind="metadata"))
        if plan.workflow.results is not None:
            self._add(MemberId(kind="results"))
        for pool in plan.pools:
            ids = [MemberId(kind="rank", pool=pool.name, rank=rank) for rank in range(pool.ranks)]
            self.ranks[pool.name] = [self._add(identity) for identity in ids]
        self._planned = {
            pool.name: planned_seats(plan.site.node, pool, plan.places(pool)) for pool in plan.pools
        }
        self.reshaped: set[str] = set()
        """Pools that ranks have joined or left while frames flowed: which turn is whose was not planned."""
        self._turns = Turns(
            {pool.name: pool.ranks for pool in plan.pools}, lambda pool, rank: self._in_place(pool, rank)
        )
        dispatched = {pool.name for pool in plan.pools if plan.dispatches and pool.input == "source"}
        self._in_turn = {
            pool.name for pool in plan.pools if takes_turns(pool, dispatched=pool.name in dispatched)
        }
        self._earlier = {pool.name: plan.connects_after(pool) for pool in plan.pools}
        self.first_rank_at: float | None = None
        self.was_ready = False
        self.had_result = False
        self.arm = False
        self.start = False
        self.epoch = 0
        self._dead: list[MemberId] = []
        self._channels: dict[str, tuple[str, ...]] = {}
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
        if record.live and record.whereabouts == request.whereabouts and record.identity == request.member:
            # It asks again, since our answer came too late for it or got lost.
            record.heard_at = now
            return Welcome(heartbeat_s=self._setup_period(), duty=self._duty(record))
        if record.live and request.member.generation <= record.identity.generation:
            return Unwelcome(reason=f"{request.member} is already running as pid {self._pid(record)}")
        if request.member.generation < record.identity.generation:
            return Unwelcome(reason=f"another has taken the place of {request.member}")
        if request.member.generation < record.least_generation:
            return Unwelcome(
                reason=f"its allocation was given up; {request.member} is started in another one"
            )
        if record.leaving:
            return Unwelcome(reason=f"the pool was made smaller: {request.member} is not needed any more")
        again = (
            record.life.state is RankState.FINISHED and request.member.generation > record.identity.generation
        )
        if again or record.life.state in (RankState.DEAD, RankState.FAILED):
            record.life.on(RankEvent.RESTART, at=now)
        if record.life.state is RankState.FINISHED:
            return Unwelcome(reason=f"{request.member} has already finished")
        self._join(record, request, now)
        return Welcome(heartbeat_s=self._setup_period(), duty=self._duty(record))

    def _join(self, record: MemberRecord, request: Registration, now: float) -> None:
        record.life.on(RankEvent.REGISTER, at=now)
        record.identity = request.member
        record.whereabouts = request.whereabouts
        record.has_come = True
        record.heard_at = record.registered_at = now
        record.state = "registered"
        record.serves = record.named = ()
        record.told = None
        record.given_up = False
        record.numbering = Numbering(late=self.was_ready and not self._plan.dispatches)
        record.follows = {}
        record.problem = record.problem_detail = record.problem_kind = ""
        if request.member.kind in COUNTING:
            for name, value in record.facts.items():
                record.past[name] = record.past.get(name, 0.0) + value
            record.facts = {}
        if request.member.kind == "rank":
            self.first_rank_at = now if self.first_rank_at is None else self.first_rank_at
            where = request.whereabouts
            record.place = Place(
                rank=request.member.rank,
                size=where.size,
                node=where.node or where.host,
                node_index=where.node_index,
                nodes=where.nodes,
                local_rank=where.local_rank,
                local_size=where.local_size,
                gpu=where.gpu,
            )
            record.from_mirror = None
            self._turns.back_to(request.member.pool, request.member.rank)
            planned = self._planned[request.member.pool][request.member.rank]
            record.misplaced = misplaced(self._plan.site, planned, where)

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
            epoch=self._present_epoch(),
            metadata=self._plan.metadata_of(pool),
            metadata_channel=self._plan.metadata_channel,
            metadata_rows=self._plan.metadata_rows(pool),
            dispatch_channel=self._plan.dispatcher if self._plan.dispatches else "",
            retires=self._plan.retires(pool.name),
            leaf=self._plan.ends_frames_of(pool.name),
            repeats=self._plan.results_retire(pool.name),
            push_channel=self._plan.push_channel if self._plan.pushes(pool.name) else "",
            input_channel=self._plan.input_channel(pool),
            input_id_field=self._plan.output_id_field(pool.input) if pool.input != "source" else None,
        )

    def heartbeat(self, beat: Heartbeat, *, now: float) -> Orders | Unwelcome:
        """A member reports; returns what it is to do."""
        record = self.members.get(str(beat.member))
        if record is None or record.identity.generation != beat.member.generation:
            return Unwelcome(reason=f"{beat.member} is not of this run any more")
        if record.only_silent and not record.live:
            record.life.on(RankEvent.REVIVE, at=now)
            record.deaths[-1] += "; it came back"
        if not record.live:
            return Unwelcome(reason=f"{beat.member} was given up: {self._last_death(record)}")
        record.only_silent = False
        record.heard_at = now
        record.counts_from = beat.counts_from
        record.epoch, record.next_epoch, record.ends_epoch = beat.epoch, beat.next_epoch, beat.ends_epoch
        record.serves = beat.serves
        self._let_go(beat)
        record.numbering.reached = beat.reached if beat.reached is not None else record.numbering.reached
        if beat.serves and self._is_numbered(record, beat, now):
            record.served_generation = beat.member.generation
            if beat.renewed and record.renewed != (renewed := (beat.member.generation, beat.renewed)):
                record.renewed = renewed
                record.renewals += 1
            record.has_served = True
        record.counters = beat.counters
        record.facts = beat.facts or record.facts
        record.has_service = bool(beat.rpc_channel)
        record.follows = beat.follows
        record.last_key = beat.last_key if beat.last_key is not None else record.last_key
        self._move(record, beat, now)
        return self._orders(record, beat)

    def _is_numbered(self, record: MemberRecord, beat: Heartbeat, now: float) -> bool:
        """Whether it is known where a rank that joins late begins to count; its readers wait for that."""
        if record.identity.kind != "rank" or not record.numbering.late:
            return True
        pool, mirror = self._plan.pool(record.identity.pool), self.members["mirror"]
        if pool.input == "source":
            return record.numbering.settle(
                beat.looked, mirror.last_key or 0, mirror_at=mirror.heard_at, now=now
            )
        producers = (self.ranks[name][rank] for name, rank in self._plan.producers(pool))
        record.numbering.begin_after(first_of_latest(one.numbering.reached for one in producers))
        return True

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
            if not (self.drain or self.stop):
                self.reshaped.add(record.identity.pool)

    def _orders(self, record: MemberRecord, beat: Heartbeat) -> Orders:
        settled = self.had_result and record.usable
        period = float(self._plan.workflow.deadlines.heartbeat) if settled else self._setup_period()
        # Until the old epoch is over everywhere, the new one waits in memory.
        ends_epoch = self.members["mirror"].ends_epoch
        if record.state == "serving" and not self.was_ready and record.identity.pool in self._in_turn:
            period = self._turns.heartbeat_s(record.identity.pool, record.identity.rank, otherwise=period)
        if self.drain or self.stop or ends_epoch:
            period = max(DRAIN_HEARTBEAT_S, DRAIN_HEARTBEAT_S_PER_MEMBER * len(self.members))
        dispatcher = record.identity.kind == "mirror" and self._plan.dispatches
        # New ranks need to be known at once where their frames, or the metadata of these, are sent again.
        # Which epoch it is has to be known at once where ranks join.
        prompt = record.identity.kind in ("mirror", "metadata", "results")
        probe, connect = self._inputs_to_tell(record, beat)
        return Orders(
            probe=probe,
            connect=connect,
            arm=self.arm,
            start=self.start,
            drain=self.drain or (ends_epoch and record.identity.kind == "rank"),
            stop=self.stop or record.dismissed,
            channels=self._channels if dispatcher else {},
            leaving=self._leaving() if dispatcher else (),
            # The dispatcher is the first to need to know who has died.
            heartbeat_s=min(period, DISPATCHER_HEARTBEAT_S) if prompt else period,
            epoch=self._epoch_for(record, dispatcher=dispatcher),
            dead=tuple(self._dead[-MAX_TOLD:]) if dispatcher else (),
            reborn=self._reborn()[-MAX_TOLD:] if prompt else (),
        )

    def _inputs_to_tell(
        self, record: MemberRecord, beat: Heartbeat
    ) -> tuple[tuple[Input, ...] | None, tuple[Input, ...] | None]:
        """What to probe and to connect to, where that is news: a collector of thousands has as many inputs. What was
        told before counts if the answer with it has arrived."""
        probe, told = self._to_probe(record), record.told
        if told is not None and told.sequence > beat.heard:
            told = None
        if told is not None and probe == told.probe == told.connect:
            return None, None
        connect = self._to_connect(record, probe)
        if told is None:
            record.told = Told(beat.sequence, probe, connect)
            return probe, connect
        if (probe, connect) != (told.probe, told.connect):
            record.told = Told(beat.sequence, probe, connect)
        return (None if probe == told.probe else probe), (None if connect == told.connect else connect)

    def _reborn(self) -> tuple[MemberId, ...]:
        """Results on their way die with a result server as they do with a collector."""
        ranks = (record for records in self.ranks.values() for record in records)
        others = (record for record in self.members.values() if record.identity.kind == "results")
        return tuple(
            record.identity for record in (*ranks, *others) if record.identity.generation and record.usable
        )

    def scale(self, plan: RunPlan, pool: str, ranks: int) -> tuple[dict[tuple[str, int], int], list[int]]:
        """Give a pool another size; `plan` has at least as many ranks.

        Returns the generations in which further ranks have to be started, by pool and rank, and which ranks leave.
        """
        self._plan = plan
        self.reshaped.add(pool)
        records = self.ranks[pool]
        for number in range(len(records), plan.pool(pool).ranks):
            records.append(self._add(MemberId(kind="rank", pool=pool, rank=number)))
            records[-1].leaving = True  # until it is wanted, a few lines on
        self._planned[pool] = planned_seats(plan.site.node, plan.pool(pool), plan.places(plan.pool(pool)))
        self._channels[pool] = tuple(plan.dispatch_channel(pool, number) for number in range(len(records)))
        coming: dict[tuple[str, int], int] = {}
        for record in records[:ranks]:
            if record.is_absent:
                new = record.life.state is RankState.EXPECTED
                coming[pool, record.identity.rank] = 0 if new else record.identity.generation + 1
            record.leaving = record.dismissed = False
        leaves = [record.identity.rank for record in records[ranks:] if record.live and not record.leaving]
        for record in records[ranks:]:
            record.leaving = True
        return coming, leaves

    def still_leaving(self, pool: str) -> bool:
        """Whether ranks of the pool have not gone yet."""
        return any(record.leaving and record.live for record in self.ranks[pool])

    def _leaving(self) -> tuple[MemberId, ...]:
        records = (record for records in self.ranks.values() for record in records)
        return tuple(record.identity for record in records if record.leaving and record.live)

    def _let_go(self, beat: Heartbeat) -> None:
        for identity in beat.dismissed:
            record = self.members.get(str(identity))
            if record is not None and record.leaving and record.identity == identity:
                record.dismissed = True

    def next_epoch(self) -> None:
        """Begin the epoch that the dispatcher wants, when everyone is in the present one."""
        wanted = self.members["mirror"].next_epoch
        if wanted > self.epoch:
            self.epoch = wanted

    def _present_epoch(self) -> int:
        """Without a dispatcher everybody counts epochs, and nobody gives them out."""
        return max(self.epoch, (self.members["mirror"].last_key or 0) >> ID_BITS)

    def _epoch_for(self, record: MemberRecord, *, dispatcher: bool) -> int:
        counts_itself = record.identity.kind in ("mirror", "metadata") or (
            record.identity.kind == "results" and self._plan.results_by == "mirror"
        )
        if counts_itself and not dispatcher:
            return self._present_epoch()
        return self.epoch if not dispatcher or self._in_epoch() else 0

    def _in_epoch(self) -> bool:
        """Whether everyone but the dispatcher numbers frames in the present epoch."""
        others = (record for record in self.members.values() if record.identity.kind in ("rank", "results"))
        return all(record.epoch >= self.epoch for record in others if record.live)

    def _setup_period(self) -> float:
        silence = float(self._plan.workflow.deadlines.silence)
        return min(max(SETUP_HEARTBEAT_S, SETUP_HEARTBEAT_S_PER_MEMBER * len(self.members)), silence / 2)

    def longest_silence_s(self) -> float:
        """How long a member that is told to stop may be silent and still be on its way."""
        return max(2.0, 2.5 * self._setup_period())

    def _to_probe(self, record: MemberRecord) -> tuple[Input, ...] | None:
        """The inputs of a member, as soon as all of them are served; None before."""
        if record.identity.kind == "results":
            results = self._plan.workflow.results
            assert results is not None
            return () if self._plan.pushes(results.pool) else self._result_inputs(results.pool)
        if record.identity.kind == "metadata":
            return () if self.members["mirror"].usable else None
        if record.place is None:
            return ()
        pool = self._plan.pool(record.identity.pool)
        # Where the metadata are being started again, frames go on without.
        if self._plan.metadata_of(pool) and not self.members["metadata"].has_served:
            return None
        if self._plan.pushes(pool.name) and not self.members["results"].has_service:
            return None
        if pool.input == "source":
            mirror = self.members["mirror"]
            if not mirror.usable:
                return None
            # They follow from the place, and are asked for with each heartbeat.
            served = (mirror.served_generation, mirror.renewals)
            after = record.numbering.after
            if record.from_mirror is None or record.from_mirror[0] != (*served, after):
                inputs = self._plan.inputs(pool, record.place, (), mirror=served)
                if after is not None:
                    inputs = tuple(structs.replace(each, after=after) for each in inputs)
                record.from_mirror = ((*served, after), inputs)
            return record.from_mirror[1]
        producers = [self.ranks[name][rank] for name, rank in self._plan.producers(pool)]
        if not self.was_ready and not all(self._serves_or_late(producer) for producer in producers):
            return None
        generations = [
            producer.served_generation if producer.has_served and not producer.has_left else None
            for producer in producers
        ]
        inputs = self._plan.inputs(pool, record.place, generations)
        if self._plan.dispatches:
            return inputs
        return tuple(
            structs.replace(each, after=self._begins_after(record, each, producers[each.producer]))
            for each in inputs
        )

    def _result_after(self, rank: MemberRecord) -> int | None:
        """Which frame the result server begins after when it reads this generation of a rank. It may wait for clients
        before it does."""
        number, generation = rank.identity.rank, rank.served_generation
        server, reader = self.members["results"], (number, generation)
        if reader not in server.numbering.inputs or server.follows.get(number) != generation:
            server.numbering.inputs[reader] = rank.numbering.reached if self.was_ready else None
        return server.numbering.inputs[reader]

    def _begins_after(self, record: MemberRecord, each: Input, producer: MemberRecord) -> int | None:
        """Which frame a rank begins after when it reads this generation of a producer: the same in all answers."""
        known, reader = record.numbering.inputs, (each.producer, each.generation)
        if reader not in known or not record.serves:
            known[reader] = producer.numbering.reached if self.was_ready else None
        return known[reader]

    def _in_place(self, pool: str, rank: int) -> bool:
        """Whether the next rank need not wait for this one."""
        record = self.ranks[pool][rank]
        return record.usable or self.is_late(record)

    def _serves_or_late(self, record: MemberRecord) -> bool:
        return bool(record.serves) or self.is_late(record)

    def is_late(self, record: MemberRecord) -> bool:
        """Whether the run does not wait for this rank: it has not come yet, and its pool has as many as it needs."""
        if record.identity.kind != "rank" or record.has_come:
            return False
        pool = self._plan.pool(record.identity.pool)
        if pool.min_ranks is None:
            return False
        return sum(each.has_come for each in self.ranks[pool.name]) >= pool.min_ranks

    def _result_inputs(self, pool: str) -> tuple[Input, ...] | None:
        """What the result server reads: as soon as all of it is served, and then each new generation of it."""
        ranks = self.ranks[pool]
        if not self.was_ready and not all(self._serves_or_late(rank) for rank in ranks):
            return None
        return tuple(
            Input(
                channel=self._plan.channels(pool, rank.identity.rank).output,
                request=f"record[queueSize={self._plan.workflow.mirror.queue}]field()",
                producer=rank.identity.rank,
                generation=rank.served_generation,
                after=None if self._plan.dispatches else self._result_after(rank),
            )
            for rank in ranks
            if rank.has_served
        )

    def _to_connect(self, record: MemberRecord, probe: tuple[Input, ...] | None) -> tuple[Input, ...] | None:
        """What the rank may connect to now, all of `probe`; None while it has to wait for its readers or its turn."""
        if record.place is None or not record.serves or not self._is_read(record):
            return None
        if record.numbering.late and record.numbering.after is None:
            return None
        # The distributor hands out turns in the order of connection: one rank after the other.
        if self.was_ready and self._plan.dispatches and self._waits_for_results(record):
            return None
        pool, rank = record.identity.pool, record.identity.rank
        if (
            not self.was_ready
            and pool in self._in_turn
            and not self._turns.may_connect(pool, rank, after=self._earlier[pool])
        ):
            return None
        return probe

    def _waits_for_results(self, record: MemberRecord) -> bool:
        """A new last collector has to know which results the beamline has; the result server's word must be younger
        than the collector."""
        results = self._plan.workflow.results
        if results is None or record.identity.pool != results.pool or record.usable:
            return False
        if self._plan.results_retire(results.pool):
            return False
        return self.members["results"].heard_at < record.registered_at + RESULTS_SETTLE_S

    def _is_read(self, record: MemberRecord) -> bool:
        """Whether everyone who has to receives this rank's output: a frame processed before would be lost."""
        results = self._plan.workflow.results
        if results is not None and results.pool == record.identity.pool:
            server = self.members["results"]
            current = server.follows.get(record.identity.rank) == record.identity.generation
            # The C++ mirror does not know generations: it has one channel for all.
            knows = self._plan.results_by != "mirror"
            if not server.usable or (knows and not current):
                return False
        for pool in self._plan.pools:
            if record.identity.pool not in pool.inputs:
                continue
            number = self._plan.producer_number(pool, record.identity.pool, record.identity.rank)
            for reader in self.ranks[pool.name]:
                if not self._plan.reads(pool, reader.identity.rank, record.identity.rank):
                    continue
                current = reader.follows.get(number) == record.identity.generation
                # While a reader is dead nobody waits for it: its frames are lost with it, and named.
                if not current and (reader.live or not (self.was_ready or self.is_late(reader))):
                    return False
        return True

    def died(self, record: MemberRecord, *, now: float, reason: str, only_silent: bool = False) -> None:
        """A member is gone: `only_silent`, or whoever started it says so. A rank that was only silent may speak again
        as long as no other has taken its place."""
        record.only_silent = only_silent and record.identity.kind == "rank"
        if record.live or record.life.state is RankState.EXPECTED:
            record.life.on(RankEvent.DIE, at=now, reason=reason)
            record.deaths.append(reason)
            if record.identity.kind == "rank":
                self._dead.append(record.identity)
                self._turns.back_to(record.identity.pool, record.identity.rank)
            record.serves = record.named = ()

    def silent(self, *, now: float, silence_s: float) -> list[MemberRecord]:
        """Members that live as far as we know and have not been heard for too long."""
        return [
            record for record in self.members.values() if now - record.heard_at > silence_s and record.live
        ]

    def heard_at(self) -> dict[tuple[str, int], float]:
        """When each rank (pool, rank) that has registered was heard last, dead or alive."""
        ranks = (record for records in self.ranks.values() for record in records)
        return {(one.identity.pool, one.identity.rank): one.heard_at for one in ranks if one.heard_at}

    def all_ready(self) -> bool:
        """Whether every member's monitor has received an update, so that the first frame may come."""
        return all(record.usable or self.is_late(record) for record in self.members.values())

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
