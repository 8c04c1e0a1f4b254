"""The dispatcher of at-least-once delivery: which rank gets which frame, and when a frame is over.

The choice: a pure state machine. Each event is a method that returns the actions it calls for, in order; the caller
keeps the payloads by key and acts. No payload, thread or clock is in here. `docs/decisions/0005-dispatcher.md` has the
options. One dispatcher serves one pool.

A frame is held until it has exactly one final state: retired (its result is collected), dropped by the processor,
failed, or lost by the overflow policy. Credit is another matter: a rank gets it back with each ack. Frames that a rank
gives back go first, lowest key first.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pyroaring import BitMap64

from beamcast.core.credit import RankCredit, RankMode
from beamcast.core.dispatch_protocol import (
    Ack,
    Action,
    Discard,
    Dismiss,
    DispatchGauges,
    DispatchTotals,
    DropNewest,
    FailOut,
    Final,
    Release,
    Send,
    Spill,
    Unspill,
)
from beamcast.core.flow import FlowRates
from beamcast.core.lanes import FrameLanes
from beamcast.core.rank_table import RankTable
from beamcast.core.replay import FrameState, HeldFrame, ReplayLimits
from beamcast.core.suspects import ProofRank

# How long a disk that was full is left alone. Meanwhile frames are lost anyway: a try more or less costs nothing.
DISK_RETRY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRules:
    """When a frame is sent again, and when no more."""

    max_attempts: int = 3
    """Ranks a frame may fail on, or die with, before it is failed. At least 2: the last one is made alone."""
    retire_timeout_s: float | None = None
    """A processed frame whose result has not arrived by then is sent again; None: only `results_lost` does that."""
    retire_on_ack: bool = False
    """A processed frame is final. For a pool with no output."""

    def __post_init__(self) -> None:
        if self.max_attempts < 2:
            raise ValueError(f"max_attempts {self.max_attempts}: with fewer than 2, every death loses frames")


class Dispatcher:
    """Decides for one pool. One thread; `now` in seconds of any steady clock. Keys increase (`EpochTracker`)."""

    def __init__(self, limits: ReplayLimits, rules: RetryRules, *, turn_frames: int = 1) -> None:
        """`turn_frames`: how many frames in a row go to one rank, since they travel together.

        Raises:
            ValueError: fewer than one.
        """
        if turn_frames < 1:
            raise ValueError(f"a turn of {turn_frames} frames is none")
        self._rules = rules
        self._lanes = FrameLanes(limits)
        self._frames = self._lanes.frames
        self._buffer = self._lanes.buffer
        self._ranks = RankTable(turn_frames)
        self._proof = ProofRank(self._ranks)
        self._flow = FlowRates()
        self._disk_full = False
        self._disk_retry_at: float | None = None
        self._last_key = -1
        self._draining = False
        self.totals = DispatchTotals()

    def seen(self, key: int) -> bool:
        """Whether a key has come before; its payload must not be kept a second time."""
        return key <= self._last_key

    def processed_keys(self) -> list[int]:
        """Frames that are processed and whose results are not final yet."""
        return list(self._lanes.processed)

    def in_flight_keys(self) -> list[int]:
        """Frames that ranks have in hand, as far as their acks say."""
        return [key for rank in self._ranks.present.values() for key in rank.outstanding]

    @property
    def held(self) -> int:
        """Frames that are not final."""
        return len(self._frames)

    @property
    def is_drained(self) -> bool:
        """Whether `drain` was called and every frame is final."""
        return self._draining and not self._frames

    def gauges(self) -> DispatchGauges:
        """Return what is held, and the rates as of the last tick."""
        lanes, buffer, flow = self._lanes, self._buffer, self._flow
        return DispatchGauges(
            held_frames=len(self._frames),
            held_bytes=buffer.memory_bytes,
            waiting_frames=lanes.waiting_frames,
            in_flight_frames=lanes.in_flight_frames,
            processed_frames=len(lanes.processed),
            spilled_frames=buffer.spilled_frames,
            spilled_bytes=buffer.disk_bytes,
            input_bytes_per_s=flow.in_bytes_per_s,
            output_bytes_per_s=flow.out_bytes_per_s,
            seconds_left=flow.seconds_left(buffer.free_bytes),
        )

    # Events of the source.

    def frame(self, key: int, size_bytes: int) -> list[Action]:
        """A frame came. A key that came before is counted and ignored."""
        if key <= self._last_key:
            self.totals.duplicates += 1
            return []
        self._last_key = key
        self.totals.frames += 1
        if self._draining:
            return [self._lose(key, "it came after the stream had ended")]
        frame = self._buffer.admit(key, size_bytes)
        if frame is None:
            return [self._lose(key, self._buffer.why_refused(size_bytes))]
        self._flow.in_bytes += size_bytes
        return [Spill(key)] if frame.state is FrameState.SPILLING else self._dispatch([])

    def end_turn(self) -> None:
        """The frames of this turn are on their way, fewer than might be: the next one may go to another rank."""
        self._ranks.choice.end_turn()

    def drain(self) -> None:
        """The stream has ended: frames that still come are lost, those that are held go on."""
        self._draining = True

    def abandon(self, reason: str) -> list[Action]:
        """Fail every frame that is held, such as at the drain's deadline."""
        out: list[Action] = []
        for key in sorted(self._frames):
            self._fail(self._frames[key], reason, out)
        return self._dispatch(out)

    def resume(self, *, after: int, spilled: Iterable[tuple[int, int]]) -> list[Action]:
        """Take the place of a dispatcher that is gone, before any frame comes.

        Args:
            after: the last key that it had; it, and those below, do not come any more.
            spilled: key and size in bytes of the payloads that it left on disk, in increasing order.
        """
        for key, size_bytes in spilled:
            self._buffer.adopt(key, size_bytes)
            self.totals.frames += 1
            self._last_key = key
        self._last_key = max(self._last_key, after)
        return self._dispatch([])

    # Events of the ranks.

    def rank_joined(
        self, rank: int, generation: int, *, window_frames: int, window_bytes: int
    ) -> list[Action]:
        """A rank can take frames. A new generation ends the one before; an old or known one is ignored.

        Raises:
            ValueError: a window below one frame or one byte.
        """
        joined = RankCredit(rank, generation, window_frames=window_frames, window_bytes=window_bytes)
        if not self._ranks.is_new(rank, generation):
            return []
        before = self._ranks.present.get(rank)
        out = self.rank_died(rank, before.generation) if before is not None else []
        self._ranks.add(joined)
        return self._dispatch(out)

    def rank_died(
        self, rank: int, generation: int, *, blame: bool = True, results_lost: bool = False
    ) -> list[Action]:
        """A rank is gone; what it had is sent to others.

        Args:
            rank: its number.
            generation: its generation; another one than the present is ignored.
            blame: the frames it had get a strike. False where the cause is known to be another: the end of the
                allocation, a command.
            results_lost: the results it made and that are not retired died with it.
        """
        gone = self._ranks.get(rank, generation)
        if gone is None:
            return []
        self._remove(gone)
        had = [self._frames[key] for key in gone.outstanding if key in self._frames]
        if blame:
            for frame in had:
                frame.strike(f"rank {rank} (generation {generation}) died with it")
        # One that it gave back when it fell silent, and that still waits, may have to wait in another lane now.
        back = [each for each in had if each.holder is gone or each.state is FrameState.AGAIN]
        if results_lost:
            back += [each for each in self._lanes.processed.values() if each.holder is gone]
        return self._dispatch(self._send_again(back, []))

    def rank_silent(self, rank: int, generation: int) -> list[Action]:
        """A rank shows no sign of life: its frames go to others, and it gets none. Its credit stays with it."""
        silent = self._ranks.get(rank, generation)
        if silent is None or silent.mode is RankMode.SILENT:
            return []
        if silent.mode is RankMode.LEAVING:
            return self.rank_died(rank, generation, blame=False)
        self._proof.forget(silent)
        self._ranks.set_mode(silent, RankMode.SILENT)
        had = (self._frames.get(key) for key in silent.outstanding)
        back = [each for each in had if each is not None and each.holder is silent]
        return self._dispatch(self._send_again(back, []))

    def rank_awake(self, rank: int, generation: int) -> list[Action]:
        """A silent rank shows life again. What it has in its queue and nobody else has got is its again."""
        awake = self._ranks.get(rank, generation)
        if awake is None or awake.mode is not RankMode.SILENT:
            return []
        self._wake(awake)
        return self._dispatch([])

    def rank_leaving(self, rank: int, generation: int) -> list[Action]:
        """A rank is to be removed: it gets no more, finishes what it has, and then is dismissed."""
        leaving = self._ranks.get(rank, generation)
        if leaving is None:
            return []
        out: list[Action] = []
        self._proof.forget(leaving)
        if leaving.mode is RankMode.SILENT or not leaving.outstanding:
            self._dismiss(leaving, out)
        else:
            self._ranks.set_mode(leaving, RankMode.LEAVING)
        return self._dispatch(out)

    def results_of(self, rank: int) -> int:
        """How many results that a rank has made, in any generation, are not final."""
        frames = self._lanes.processed.values()
        return sum(each.holder is not None and each.holder.rank == rank for each in frames)

    def has(self, rank: int) -> bool:
        """Whether a rank is present."""
        return rank in self._ranks.present

    def oldest_sent(self, rank: int) -> int | None:
        """The frame that was sent to a rank first, of those that it has not acked; None where it has none."""
        present = self._ranks.present.get(rank)
        return None if present is None else next(iter(present.outstanding), None)

    # Events of the results.

    def ack(self, ack: Ack, *, now: float) -> list[Action]:
        """A rank says what it did. Of a generation that is gone, only what its processor dropped counts."""
        out: list[Action] = []
        rank = self._ranks.get(ack.rank, ack.generation)
        if rank is None or ack.serial <= rank.serial:
            self.totals.stale_acks += 1
            self._end(ack.dropped if rank is None else (), Final.DROPPED, out)
            return self._dispatch(out)
        rank.serial = ack.serial
        if rank.mode is RankMode.SILENT:
            self._wake(rank)
        self._note_processed(rank, ack, now, out)
        self._note_dropped(rank, ack, out)
        self._note_failed(rank, ack, out)
        self._ranks.choice.settle(rank)
        if rank.mode is RankMode.LEAVING and not rank.outstanding:
            self._dismiss(rank, out)
        return self._dispatch(out)

    def retired(self, keys: Iterable[int] | BitMap64) -> list[Action]:
        """Results that are final, whoever made them. Safe to repeat; unknown keys are ignored."""
        return self._dispatch(self._end(keys, Final.RETIRED, []))

    def results_lost(self, keys: Iterable[int] | BitMap64) -> list[Action]:
        """Results that died behind the pool, such as with a collector: frames processed, not retired, go again."""
        processed = self._lanes.processed
        lost = [processed[key] for key in dict.fromkeys(keys) if key in processed]
        return self._dispatch(self._send_again(lost, []))

    def tick(self, now: float) -> list[Action]:
        """Time goes on: rates, results that are overdue, a disk to be tried again. About once a second."""
        self._flow.tick(now)
        self._retry_disk(now)
        timeout_s = self._rules.retire_timeout_s
        overdue = self._lanes.overdue(now - timeout_s) if timeout_s is not None else []
        return self._dispatch(self._send_again(overdue, []))

    # Events of the disk.

    def spilled(self, key: int) -> list[Action]:
        """The payload is written."""
        frame = self._frames.get(key)
        if frame is None:
            return [Discard(key)]
        if frame.state is FrameState.SPILLING:
            self._buffer.spilled(frame)
        return self._dispatch([])

    def spill_failed(self, key: int, reason: str, *, disk_full: bool = False) -> list[Action]:
        """The payload could not be written: the frame is lost. A full disk gets no more until it has room again."""
        frame = self._frames.get(key)
        if frame is None:
            return [Discard(key)]
        if frame.state is not FrameState.SPILLING:
            return []
        self._forget(frame)
        if disk_full:
            self._buffer.disk_is_full()
            self._disk_full = True
        return self._dispatch([self._lose(key, reason)])

    def unspilled(self, key: int) -> list[Action]:
        """The payload is in memory again."""
        frame = self._frames.get(key)
        if frame is None:
            return [Discard(key)]
        if frame.state is FrameState.READING:
            self._buffer.was_read(frame)
        return self._dispatch([])

    def unspill_failed(self, key: int, reason: str) -> list[Action]:
        """The payload could not be read back or is damaged: the frame is failed."""
        frame = self._frames.get(key)
        if frame is None:
            return [Discard(key)]
        out: list[Action] = []
        if frame.state is FrameState.READING:
            self._fail(frame, reason, out)
        return self._dispatch(out)

    # Decisions: each adds to `out`.

    def _dispatch(self, out: list[Action]) -> list[Action]:
        """Send what can be sent, then ask the disk for more."""
        if self._lanes.alone or self._proof.is_set:
            self._try_suspects(out)
        while (frame := self._lanes.first()) is not None:
            rank = self._ranks.choice.next(frame.size_bytes)
            if rank is not None:
                self._send(frame, rank, out)
            elif not self._fail_if_too_large(frame, out):
                break
        if self._buffer.spilled_frames:
            while (to_read := self._buffer.next_to_read()) is not None:
                out.append(Unspill(to_read.key))
        return out

    def _try_suspects(self, out: list[Action]) -> None:
        while self._lanes.alone:
            frame = self._frames[self._lanes.alone.first]
            rank = self._proof.ready_for(frame.size_bytes)
            if rank is not None:
                frame.was_alone = True
                self._send(frame, rank, out)
            elif not self._fail_if_too_large(frame, out):
                return
        self._proof.let_go()

    def _send(self, frame: HeldFrame, rank: RankCredit, out: list[Action]) -> None:
        self._lanes.put_in_flight(frame, rank)
        frame.sends += 1
        rank.take(frame.key, frame.size_bytes)
        self._ranks.choice.settle(rank)
        self.totals.sends += 1
        self.totals.sends_again += frame.sends > 1
        out.append(Send(rank.rank, frame.key, frame.sends))

    def _fail_if_too_large(self, frame: HeldFrame, out: list[Action]) -> bool:
        """Fail a frame that no rank present could ever take: it would hold up all that follow."""
        widest = self._ranks.widest_bytes
        if not self._ranks.present or frame.size_bytes <= widest:
            return False
        self._fail(frame, f"{frame.size_bytes} bytes exceed every rank's window ({widest} bytes)", out)
        return True

    def _send_again(self, frames: Iterable[HeldFrame], out: list[Action]) -> list[Action]:
        """Put frames where they wait for another try, or fail them."""
        last = self._rules.max_attempts - 1
        for frame in frames:
            keeper = self._ranks.still_has(frame.key)
            if keeper is not None:
                self._lanes.put_in_flight(frame, keeper)
            elif frame.strikes > last and frame.was_alone:
                self._fail(frame, frame.why, out)
            else:
                self._lanes.put_again(frame, alone=frame.strikes >= last)
        return out

    def _note_processed(self, rank: RankCredit, ack: Ack, now: float, out: list[Action]) -> None:
        if self._rules.retire_on_ack:
            for key in ack.processed:
                rank.give_back(key)
            self._end(ack.processed, Final.RETIRED, out)
            return
        frames, lanes = self._frames, self._lanes
        for key in ack.processed:
            if rank.give_back(key):
                frame = frames.get(key)
                # Held by another rank meanwhile: that one's ack, or the result, decides.
                if frame is not None and frame.holder is rank:
                    lanes.put_processed(frame, now)

    def _note_dropped(self, rank: RankCredit, ack: Ack, out: list[Action]) -> None:
        for key in ack.dropped:
            rank.give_back(key)
        self._end(ack.dropped, Final.DROPPED, out)

    def _note_failed(self, rank: RankCredit, ack: Ack, out: list[Action]) -> None:
        back = []
        for key, reason in ack.failed:
            frame = self._frames.get(key)
            if rank.give_back(key) and frame is not None:
                frame.strike(reason)
                if frame.holder is rank:
                    back.append(frame)
        self._send_again(back, out)

    def _end(self, keys: Iterable[int], final: Final, out: list[Action]) -> list[Action]:
        before = len(out)
        for key in keys:
            frame = self._frames.get(key)
            if frame is not None:
                self._forget(frame)
                out.append(Release(key, final))
        if final is Final.RETIRED:
            self.totals.retired += len(out) - before
        else:
            self.totals.dropped += len(out) - before
        return out

    def _fail(self, frame: HeldFrame, reason: str, out: list[Action]) -> None:
        self._forget(frame)
        self.totals.failed += 1
        out.append(FailOut(frame.key, reason, frame.strikes))

    def _lose(self, key: int, reason: str) -> DropNewest:
        self.totals.lost += 1
        return DropNewest(key, reason)

    def _forget(self, frame: HeldFrame) -> None:
        """The frame is final. The credit for it stays where it is."""
        self._lanes.forget(frame)
        self._flow.out_bytes += frame.size_bytes

    def _wake(self, rank: RankCredit) -> None:
        for key in rank.outstanding:
            frame = self._frames.get(key)
            if frame is not None and frame.state in (FrameState.AGAIN, FrameState.ALONE):
                self._lanes.put_in_flight(frame, rank)
        self._ranks.set_mode(rank, RankMode.OPEN)

    def _dismiss(self, rank: RankCredit, out: list[Action]) -> None:
        self._remove(rank)
        out.append(Dismiss(rank.rank, rank.generation))

    def _remove(self, rank: RankCredit) -> None:
        self._ranks.remove(rank)
        self._proof.forget(rank)

    def _retry_disk(self, now: float) -> None:
        if not self._disk_full:
            return
        if self._disk_retry_at is None:
            self._disk_retry_at = now + DISK_RETRY_S
        elif now >= self._disk_retry_at:
            self._buffer.disk_may_have_room()
            self._disk_full, self._disk_retry_at = False, None
