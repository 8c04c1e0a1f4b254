"""The dispatcher against a model of the world around it: payloads, a disk, and ranks with queues of their own.

The model knows nothing of lanes, strikes or buckets. It carries out what the dispatcher says and objects whenever that
breaks a promise.
"""

from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from beamcast.core.dispatch import Dispatcher, RetryRules
from beamcast.core.dispatch_protocol import (
    Ack,
    Action,
    Discard,
    Dismiss,
    DropNewest,
    FailOut,
    Final,
    Release,
    Send,
    Spill,
    Unspill,
)
from beamcast.core.replay import Overflow, ReplayLimits

RANKS = st.integers(0, 3)
LARGEST = 40  # bytes; every window takes a frame of this size when nothing else is in it
MAX_BYTES, SPILL_BUFFER, DISK = 400, 100, 300
KEPT = MAX_BYTES - SPILL_BUFFER


@dataclass
class ModelRank:
    """One process: what lies in its queue, as it would on a server of its own."""

    generation: int
    window_frames: int
    window_bytes: int
    mode: str = "awake"
    queue: dict[int, int] = field(default_factory=dict)
    serial: int = 0


class World(RuleBasedStateMachine):
    """Random events in any order; `max_attempts` is out of reach, so that no frame goes alone."""

    max_attempts = 1000
    overflow = Overflow.SPILL
    turn_frames = 1

    @initialize()
    def begin(self) -> None:
        spills = self.overflow is Overflow.SPILL
        limits = ReplayLimits(
            max_bytes=MAX_BYTES,
            overflow=self.overflow,
            spill_buffer_bytes=SPILL_BUFFER if spills else 0,
            disk_bytes=DISK if spills else 0,
        )
        self.now = 0.0
        rules = RetryRules(max_attempts=self.max_attempts, retire_timeout_s=5.0)
        self.dispatcher = Dispatcher(limits, rules, turn_frames=self.turn_frames)
        self.next_key = 1
        self.sizes: dict[int, int] = {}
        self.memory: set[int] = set()
        self.disk: set[int] = set()
        self.writing: list[int] = []
        self.reading: list[int] = []
        self.finals: dict[int, str] = {}
        self.attempts: dict[int, int] = {}
        self.last_fresh = 0
        self.ranks: dict[int, ModelRank] = {}
        self.generation = 0
        self.old_acks: list[Ack] = []
        self.results: set[int] = set()
        self.dropped: set[int] = set()

    # What the dispatcher says is done, and checked.

    def do(self, actions: list[Action]) -> None:
        sends = [each for each in actions if isinstance(each, Send)]
        for action in actions:
            self.act(action)
        again = [each.key for each in sends if each.attempt > 1]
        if self.max_attempts == 1000:
            # Re-sends come first and in order; what was never sent follows in order.
            assert [each.key for each in sends[: len(again)]] == again == sorted(again)

    def act(self, action: Action) -> None:
        match action:
            case Send():
                self.on_send(action)
            case Release(key, final):
                assert key in (self.results if final is Final.RETIRED else self.dropped)
                self.end(key, final)
            case FailOut(key):
                self.end(key, Final.FAILED)
            case DropNewest(key):
                assert key not in self.attempts, "lost although it had been sent"
                self.end(key, Final.LOST)
            case Spill(key):
                assert key in self.memory
                self.writing.append(key)
            case Unspill(key):
                assert key in self.disk
                self.reading.append(key)
            case Discard(key):
                assert key in self.finals
            case Dismiss(rank, generation):
                gone = self.ranks.pop(rank)
                assert gone.generation == generation
                assert gone.mode == "leaving"
            case _:
                raise AssertionError(f"unexpected {action}")

    def on_send(self, send: Send) -> None:
        rank, key = self.ranks[send.rank], send.key
        assert rank.mode == "awake", "sent to a rank that is silent or leaves"
        assert key not in self.finals
        assert key in self.memory, "the payload is on disk or gone"
        assert key not in rank.queue, "the rank has it already"
        self.attempts[key] = self.attempts.get(key, 0) + 1
        assert send.attempt == self.attempts[key]
        if send.attempt == 1:
            assert key > self.last_fresh
            self.last_fresh = key
        rank.queue[key] = self.sizes[key]
        assert len(rank.queue) <= rank.window_frames
        assert sum(rank.queue.values()) <= rank.window_bytes

    def end(self, key: int, final: str) -> None:
        assert key not in self.finals, f"{key} is {self.finals[key]} already"
        self.finals[key] = final
        self.memory.discard(key)
        self.disk.discard(key)

    # The source.

    @rule(size=st.integers(0, LARGEST), count=st.integers(1, 6), gap=st.integers(1, 3))
    def frames_come(self, size: int, count: int, gap: int) -> None:
        for _ in range(count):
            key = self.next_key
            self.next_key += gap
            assert not self.dispatcher.seen(key)
            self.sizes[key] = size
            self.memory.add(key)
            self.do(self.dispatcher.frame(key, size))

    @precondition(lambda self: self.sizes)
    @rule(data=st.data())
    def a_frame_comes_twice(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.sizes)))
        assert self.dispatcher.seen(key)
        assert self.dispatcher.frame(key, self.sizes[key]) == []

    # The ranks.

    @rule(rank=RANKS, frames=st.integers(1, 5), extra=st.integers(0, 60))
    def join(self, rank: int, frames: int, extra: int) -> None:
        """A new process; also in the place of one that nobody has seen die."""
        self.generation += 1
        before = self.ranks.pop(rank, None)
        joined = ModelRank(self.generation, frames, LARGEST + extra)
        # The death of the one before is dealt with before the new one can get anything.
        if before is not None:
            self.do(self.dispatcher.rank_died(rank, before.generation))
        self.ranks[rank] = joined
        self.do(
            self.dispatcher.rank_joined(
                rank, self.generation, window_frames=frames, window_bytes=LARGEST + extra
            )
        )

    @precondition(lambda self: self.ranks)
    @rule(data=st.data(), blame=st.booleans(), results_lost=st.booleans())
    def die(self, data: st.DataObject, blame: bool, results_lost: bool) -> None:
        rank = data.draw(st.sampled_from(sorted(self.ranks)))
        gone = self.ranks.pop(rank)
        self.do(self.dispatcher.rank_died(rank, gone.generation, blame=blame, results_lost=results_lost))
        assert self.dispatcher.rank_died(rank, gone.generation) == []

    @precondition(lambda self: self.ranks)
    @rule(data=st.data(), what=st.sampled_from(["silent", "awake", "leaving"]))
    def change(self, data: st.DataObject, what: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.ranks)))
        rank = self.ranks[number]
        if what == "silent":
            if rank.mode == "leaving":
                del self.ranks[number]  # one that won't get more and doesn't answer is given up
            rank.mode = "silent"
            self.do(self.dispatcher.rank_silent(number, rank.generation))
        elif what == "awake":
            rank.mode = "awake" if rank.mode == "silent" else rank.mode
            self.do(self.dispatcher.rank_awake(number, rank.generation))
        else:
            rank.mode = "leaving"
            self.do(self.dispatcher.rank_leaving(number, rank.generation))

    # The results.

    @precondition(lambda self: any(each.queue for each in self.ranks.values()))
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        """A rank acks any part of its queue, with any mix of ends."""
        number = data.draw(st.sampled_from(sorted(each for each in self.ranks if self.ranks[each].queue)))
        rank = self.ranks[number]
        keys = data.draw(st.lists(st.sampled_from(sorted(rank.queue)), min_size=1, unique=True))
        ends = data.draw(st.lists(st.sampled_from("pppdf"), min_size=len(keys), max_size=len(keys)))
        by_end = {end: [key for key, each in zip(keys, ends, strict=True) if each == end] for end in "pdf"}
        self.send_ack(number, rank, by_end["p"], by_end["d"], by_end["f"])

    def send_ack(
        self, number: int, rank: ModelRank, processed: list[int], dropped: list[int], failed: list[int]
    ) -> None:
        rank.serial += 1
        for key in (*processed, *dropped, *failed):
            del rank.queue[key]
        self.results.update(processed)
        self.dropped.update(dropped)
        rank.mode = "awake" if rank.mode == "silent" else rank.mode
        told = Ack(
            number, rank.generation, rank.serial, processed, dropped, [(key, "no peak") for key in failed]
        )
        self.old_acks.append(told)
        self.do(self.dispatcher.ack(told, now=self.now))

    @precondition(lambda self: self.old_acks)
    @rule(data=st.data())
    def an_ack_comes_again(self, data: st.DataObject) -> None:
        before = self.dispatcher.totals.stale_acks
        self.do(self.dispatcher.ack(data.draw(st.sampled_from(self.old_acks)), now=self.now))
        assert self.dispatcher.totals.stale_acks == before + 1

    @precondition(lambda self: self.results)
    @rule(data=st.data())
    def results_arrive(self, data: st.DataObject) -> None:
        """Any results ever made, also of ranks that are gone, also again."""
        keys = data.draw(st.lists(st.sampled_from(sorted(self.results)), min_size=1, unique=True))
        self.do(self.dispatcher.retired(keys))
        assert set(keys) <= set(self.finals)

    @precondition(lambda self: self.sizes)
    @rule(data=st.data())
    def results_die(self, data: st.DataObject) -> None:
        self.do(self.dispatcher.results_lost(data.draw(st.lists(st.sampled_from(sorted(self.sizes))))))

    @rule(elapsed_s=st.sampled_from([0.0, 1.0, 6.0]))
    def time_goes_on(self, elapsed_s: float) -> None:
        self.now += elapsed_s
        self.do(self.dispatcher.tick(self.now))

    # The disk.

    @precondition(lambda self: self.writing)
    @rule(data=st.data(), how=st.sampled_from(["written", "written", "broken", "full"]))
    def write(self, data: st.DataObject, how: str) -> None:
        key = self.writing.pop(data.draw(st.integers(0, len(self.writing) - 1)))
        if how != "written":
            self.do(self.dispatcher.spill_failed(key, "no space", disk_full=how == "full"))
            assert key in self.finals
            return
        if key not in self.finals:
            self.memory.discard(key)
            self.disk.add(key)
        self.do(self.dispatcher.spilled(key))

    @precondition(lambda self: self.reading)
    @rule(how=st.sampled_from(["read", "read", "read", "damaged"]))
    def read(self, how: str) -> None:
        key = self.reading.pop(0)
        if how == "damaged":
            self.do(self.dispatcher.unspill_failed(key, "checksum"))
            assert key in self.finals
            return
        if key not in self.finals:
            self.memory.add(key)
            self.disk.discard(key)
        self.do(self.dispatcher.unspilled(key))

    @rule(data=st.data())
    def the_disk_says_odd_things(self, data: st.DataObject) -> None:
        """Answers that were never asked for, about frames that exist or don't."""
        busy = {*self.writing, *self.reading}
        key = data.draw(st.integers(1, self.next_key + 1).filter(lambda each: each not in busy))
        said = self.dispatcher
        for actions in (said.spilled(key), said.unspilled(key), said.spill_failed(key, "what?")):
            assert actions in ([], [Discard(key)])
        assert said.unspill_failed(key, "what?") in ([], [Discard(key)])

    # What holds at all times.

    @invariant()
    def bounds_hold(self) -> None:
        if not self.sizes:
            return
        gauges = self.dispatcher.gauges()
        in_memory = sum(self.sizes[key] for key in self.memory)
        on_disk = sum(self.sizes[key] for key in self.disk)
        assert in_memory <= gauges.held_bytes <= MAX_BYTES
        assert on_disk <= gauges.spilled_bytes <= DISK
        assert gauges.held_frames == len(self.sizes) - len(self.finals)
        assert gauges.waiting_frames >= 0 <= gauges.in_flight_frames

    @invariant()
    def nobody_starves(self) -> None:
        """No rank sits idle while a frame that it could take waits in memory."""
        if not self.sizes or self.dispatcher.gauges().waiting_frames == 0:
            return
        idle = [not each.queue for each in self.ranks.values() if each.mode == "awake"]
        # A frame that must go alone waits for the rank set apart, while others may be idle.
        assert not (any(idle) if self.max_attempts == 1000 else idle and all(idle))

    @invariant()
    def books_balance(self) -> None:
        totals = self.dispatcher.totals
        counted = (totals.retired, totals.dropped, totals.failed, totals.lost)
        finals = list(self.finals.values())
        assert counted == tuple(
            finals.count(each) for each in (Final.RETIRED, Final.DROPPED, Final.FAILED, Final.LOST)
        )
        assert totals.frames == len(self.sizes)
        assert totals.sends == sum(self.attempts.values())

    def teardown(self) -> None:
        """However it went: with one healthy rank and a working disk, every frame comes to its end."""
        if not hasattr(self, "dispatcher"):
            return
        for number in list(self.ranks):
            self.do(self.dispatcher.rank_died(number, self.ranks.pop(number).generation, blame=False))
        self.join(9, 4, 100)
        self.dispatcher.drain()
        for _ in range(2 * len(self.sizes)):  # each frame may be acked in one round and retired in another
            self.a_good_round()
        assert self.dispatcher.is_drained, "it stands still"
        assert set(self.finals) == set(self.sizes)
        gauges = self.dispatcher.gauges()
        assert (gauges.held_bytes, gauges.spilled_bytes, self.memory, self.disk) == (0, 0, set(), set())

    def a_good_round(self) -> None:
        rank = self.ranks[9]
        # A write and a read may follow each other several times before a frame reaches the rank.
        while self.writing or self.reading:
            while self.writing:
                self.write_well(self.writing.pop(0))
            while self.reading:
                self.read("read")
        if rank.queue:
            self.send_ack(9, rank, list(rank.queue), [], [])
        self.do(self.dispatcher.retired(sorted(self.results)))

    def write_well(self, key: int) -> None:
        if key not in self.finals:
            self.memory.discard(key)
            self.disk.add(key)
        self.do(self.dispatcher.spilled(key))


class WorldWithSuspects(World):
    """Few attempts: frames go alone, and fail."""

    max_attempts = 2


class WorldThatDrops(World):
    """No disk."""

    max_attempts = 3
    overflow = Overflow.DROP


class WorldWithTurns(World):
    """Frames travel in stacks of three; windows are narrower than that, or wider. Turns end early now and then."""

    turn_frames = 3

    @rule()
    def a_turn_ends(self) -> None:
        self.dispatcher.end_turn()


class WorldWithTurnsAndSuspects(WorldWithTurns):
    """And some go alone."""

    max_attempts = 2


BRIEFLY = settings(
    max_examples=50, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
for _world in (World, WorldWithSuspects, WorldThatDrops, WorldWithTurns, WorldWithTurnsAndSuspects):
    _world.TestCase.settings = BRIEFLY
TestWorld = World.TestCase
TestWorldWithSuspects = WorldWithSuspects.TestCase
TestWorldThatDrops = WorldThatDrops.TestCase
TestWorldWithTurns = WorldWithTurns.TestCase
TestWorldWithTurnsAndSuspects = WorldWithTurnsAndSuspects.TestCase
