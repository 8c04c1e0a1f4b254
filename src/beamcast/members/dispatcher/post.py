"""The post office of one pool: a record for each rank, the frames that are held, and the dispatcher that decides.

The payload of a frame is never touched: an update of a record shares the arrays of the received object.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyroaring import BitMap64

from beamcast.core.dispatch import Dispatcher, RetryRules
from beamcast.core.dispatch_protocol import (
    Ack,
    Action,
    Discard,
    Dismiss,
    DropNewest,
    FailOut,
    Release,
    Send,
    Spill,
    Unspill,
)
from beamcast.core.ids import ID_MASK
from beamcast.core.keyset import decode_keys, encode_keys
from beamcast.core.replay import ReplayLimits
from beamcast.core.transit import Transit
from beamcast.members.dispatcher.outbox import Outbox
from beamcast.members.dispatcher.spill import SpillStore
from beamcast.pools.acks import SESSION_BITS, SILENCE_S
from beamcast.pva.messages import AckedKeys, FailedFrame, Join, Progress

logger = logging.getLogger(__name__)


def _two_sets() -> tuple[BitMap64, BitMap64]:
    return BitMap64(), BitMap64()


class Post:
    """Frames of one pool, from the mirror to the ranks. All methods under the lock that is given."""

    def __init__(
        self,
        pool: str,
        channels: Sequence[str],
        *,
        outbox: Outbox,
        leaf: str = "",
        turn_frames: int,
        limits: ReplayLimits,
        rules: RetryRules,
        window_frames: int,
        lock: threading.RLock,
        spill_folder: Path,
    ) -> None:
        """`leaf`: who says which results are final. `turn_frames`: how many frames in a row go to one rank, since
        `outbox` sends them together."""
        self.pool = pool
        self.leaf = leaf
        self.channels = tuple(channels)
        self.dispatcher = Dispatcher(limits, rules, turn_frames=turn_frames)
        self.failed: list[FailedFrame] = []
        # What ranks have said they did, since it was last taken: processed and dropped keys by rank.
        self._acked: defaultdict[int, tuple[BitMap64, BitMap64]] = defaultdict(_two_sets)
        self._lost = 0
        self._why_lost = ""
        self._outbox = outbox
        self._window_frames = window_frames
        self._window_bytes = limits.max_bytes
        self._payloads: dict[int, Any] = {}
        self._heard: dict[int, float] = {}
        self._generation: dict[int, int] = {}
        self._transit = Transit()
        # In hand when results were lost: published by now, perhaps, when nobody was there to hear.
        self._unheard = BitMap64()
        self._store = SpillStore(spill_folder, lock=lock, done=self._disk_done)
        self._lock = lock

    def open(self, probe: Any) -> None:
        """Make the ranks' records like the probe."""
        self._outbox.open(probe)

    @property
    def unfit(self) -> str:
        """Why a frame could not be sent: it has another structure than the first. The run can't go on."""
        return self._outbox.unfit

    def resume(self, *, after: int, size_bytes: int) -> None:
        """Go on for a mirror that was killed: `after` is the last key that it had; what it had spilled is there."""
        self._act(
            self.dispatcher.resume(after=after, spilled=[(key, size_bytes) for key in self._store.left()])
        )

    def close(self) -> None:
        """Leave nothing on disk."""
        self._store.close()

    def frame(self, key: int, pv: Any, size_bytes: int) -> None:
        """A frame came: the frame path."""
        dispatcher = self.dispatcher
        if dispatcher.seen(key):
            return
        self._payloads[key] = pv
        self._act(dispatcher.frame(key, size_bytes))

    def flush(self, now: float) -> None:
        """Send what has waited for others to travel with; the frame after it may go to another rank."""
        if self._outbox.flush(now):
            self.dispatcher.end_turn()

    def join(self, message: Join) -> None:
        """A rank's monitor receives."""
        self._outbox.forget(message.rank)
        self._heard[message.rank] = time.monotonic()
        before = self._generation.get(message.rank)
        self._generation[message.rank] = message.generation
        if before is not None:
            # Whatever was under way to the session before is lost; that is not the frames' fault.
            self._act(self.dispatcher.rank_died(message.rank, before, blame=False))
        self._act(
            self.dispatcher.rank_joined(
                message.rank,
                message.generation,
                window_frames=self._window_frames,
                window_bytes=self._window_bytes,
            )
        )

    def extend(self, channels: Sequence[str]) -> None:
        """The pool has more ranks now: `channels` are those of all."""
        if len(channels) > len(self.channels):
            self._outbox.extend(channels)
            self.channels = tuple(channels)

    def leave(self, rank: int, generation: int) -> bool:
        """A rank is to leave the pool: it gets nothing more. Whether it may go: all that it has made is final."""
        session = self._generation.get(rank)
        if session is not None and session >> SESSION_BITS == generation:
            self._act(self.dispatcher.rank_leaving(rank, session))
        return not self.dispatcher.has(rank) and not self.dispatcher.results_of(rank)

    def progress(self, message: Progress, *, now: float) -> bool:
        """A rank reports. False when it has to join before it gets frames: it is not known here, or cut off."""
        if known := self._generation.get(message.rank) == message.generation:
            self._heard[message.rank] = now
        ack = Ack(
            rank=message.rank,
            generation=message.generation,
            serial=message.serial,
            processed=decode_keys(message.processed) if message.processed else (),
            dropped=decode_keys(message.dropped) if message.dropped else (),
            failed=message.failed,
        )
        processed, dropped = self._acked[message.rank]
        processed.update(ack.processed)
        dropped.update(ack.dropped)
        self._act(self.dispatcher.ack(ack, now=now))
        if self._unheard:
            self._make_again(BitMap64(ack.processed) & self._unheard)
        return known and not self._lost_on_the_way(message, now)

    def _lost_on_the_way(self, message: Progress, now: float) -> bool:
        """Whether what was sent to a rank can't arrive any more: it has to join again."""
        rank = message.rank
        if message.processed or message.dropped or message.failed:
            self._transit.arrived(rank)
        if not message.idle:
            self._transit.busy(rank)
            return False
        oldest = self.dispatcher.oldest_sent(rank)
        lost = self._transit.is_lost(rank, oldest, now=now)
        if lost:
            logger.warning(
                "rank %d has nothing in hand: frame %s and later ones never came there", rank, oldest
            )
        return lost

    def take_acked(self) -> dict[int, AckedKeys]:
        """What ranks have said they did, since the last call."""
        acked, self._acked = self._acked, defaultdict(_two_sets)
        return {
            rank: AckedKeys(processed=encode_keys(processed), dropped=encode_keys(dropped))
            for rank, (processed, dropped) in acked.items()
            if processed or dropped
        }

    def retired(self, keys: Any) -> None:
        """Results that are final."""
        self._act(self.dispatcher.retired(keys))

    def died(self, rank: int, generation: int) -> None:
        """A rank is gone; results that it had made and nobody collected are gone with it."""
        session = self._generation.get(rank)
        if session is not None and session >> SESSION_BITS == generation:
            del self._generation[rank], self._heard[rank]
            self._outbox.forget(rank)
            self._act(self.dispatcher.rank_died(rank, session, results_lost=True))

    def results_lost(self) -> None:
        """Whoever gathers the results was replaced, and what it held is gone: make that again. What ranks have in hand
        may have been published before the successor heard them: that is made again when it is acked."""
        self._unheard = BitMap64(self.dispatcher.in_flight_keys())
        self._act(self.dispatcher.results_lost(self.dispatcher.processed_keys()))

    def _make_again(self, unheard: BitMap64) -> None:
        self._unheard -= unheard
        self._act(self.dispatcher.results_lost(unheard))

    def tick(self, now: float) -> None:
        """Look for ranks that have fallen silent; a few times a second."""
        for rank, heard in tuple(self._heard.items()):
            if now - heard > SILENCE_S:
                self._act(self.dispatcher.rank_silent(rank, self._generation[rank]))
        self._act(self.dispatcher.tick(now))
        if self._lost:
            # The ledger names them; a line for each would cost more than the frames that are not lost.
            logger.warning("pool %s: %d frames are lost; %s", self.pool, self._lost, self._why_lost)
            self._lost = 0

    def _act(self, actions: list[Action]) -> None:
        send, payloads = self._outbox.send, self._payloads
        for action in actions:
            kind = type(action)
            if kind is Send:
                send(action.rank, action.key & ID_MASK, payloads[action.key])  # type: ignore[union-attr]
            elif kind is Release:
                payloads.pop(action.key, None)  # type: ignore[union-attr]
            else:
                self._act_rarely(action)

    def _act_rarely(self, action: Action) -> None:
        match action:
            case FailOut(key, reason, strikes):
                text = f"given up after {strikes} attempts: {reason}"
                self.failed.append(FailedFrame(key=key, traceback=text))
                self._keep(key)
            case DropNewest(key, reason):
                self._lost += 1
                self._why_lost = f"the last one is {key}: {reason}"
                self._payloads.pop(key, None)
                self._store.forget(key)
            case Spill(key):
                self._store.write(key, self._payloads[key])
            case Unspill(key):
                self._store.read(key)
            case Discard(key):
                self._payloads.pop(key, None)
                self._store.forget(key)
            case Dismiss(rank, generation):
                logger.info("rank %d (generation %d) has nothing more in hand", rank, generation)

    def _keep(self, key: int) -> None:
        """A poison frame stays on disk for later."""
        pv = self._payloads.pop(key, None)
        if pv is not None:
            self._store.keep(key, pv)

    def _disk_done(self, kind: str, key: int, pv: Any, problem: str, *, full: bool) -> None:
        """The store has written or read a frame; called under the lock."""
        dispatcher = self.dispatcher
        if kind == "written" and not problem:
            self._payloads.pop(key, None)
            self._act(dispatcher.spilled(key))
        elif kind == "written":
            self._act(dispatcher.spill_failed(key, problem, disk_full=full))
        elif not problem:
            self._payloads[key] = pv
            self._act(dispatcher.unspilled(key))
        else:
            self._act(dispatcher.unspill_failed(key, problem))
