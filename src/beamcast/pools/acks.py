"""What a rank says to the dispatcher: I can take frames, I have done these, these results are final.

A thread of its own looks at the tally every few milliseconds and reports when it is worth an exchange
(`beamcast.core.ack_pace`): credit that comes back late costs throughput, and so does every exchange. What it takes is
also kept for the heartbeat. A message is repeated unchanged until it is answered, so nothing is lost with a
broken connection; the dispatcher ignores repeats.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from pyroaring import BitMap64

from beamcast.core.ack_pace import AckPace
from beamcast.core.errors import WorldError
from beamcast.core.keyset import encode_keys
from beamcast.pools.tally import Tally, take_keys
from beamcast.pva.messages import Join, Progress, Retired, Taken
from beamcast.pva.rpc import RpcCaller
from beamcast.security.secret import Refused

logger = logging.getLogger(__name__)

# Only for what is due by time: a look costs 20 to 40 µs, and the frame loop calls when half a window is done.
LOOK_S = 0.02
# A slow stream's frames are reported this late. What a rank has done and not reported is done again when it dies.
CREDIT_DELAY_S = 0.1
# What is final leaves the replay buffer this late: 240 MB more of it at 2.4 GB/s, as fast as pvAccess is.
RETIRE_DELAY_S = 0.1
# The dispatcher takes a rank for silent after `SILENCE_S` without a word, so say one several times in between.
IDLE_PERIOD_S = 0.25
SILENCE_S = 1.5
RPC_TIMEOUT_S = 1.0
# A fresh monitor that has had no update by then is left for another one.
FRESH_S = 5.0
SESSION_BITS = 20


class Acks:
    """Reports to the dispatcher while the `with` block lasts. `take` hands what was reported to the heartbeat."""

    def __init__(
        self,
        tally: Tally,
        caller: RpcCaller,
        *,
        pool: str,
        rank: int,
        generation: int,
        window_frames: int | None,
        retires: bool,
        leaf: str | None,
        receiving: Callable[[], bool],
        reopen: Callable[[], None],
        idle: Callable[[], bool],
    ) -> None:
        """`window_frames`: how many a rank may hold that gets its frames from the dispatcher, and has to report for
        credit; None for others. `retires`: the outputs are final. `leaf`: for whose branch a frame ends that is
        dropped here; None where that does not end it. `receiving`: whether the monitor is connected and has had an
        update; `reopen`: make a fresh one; `idle`: whether no frame waits or is in work."""
        self._tally = tally
        self._caller = caller
        self._pool, self._rank = pool, rank
        # A monitor that was interrupted has lost what was queued for it: the rank then joins once more, as another
        # session of the same generation.
        self._session = generation << SESSION_BITS
        self._receiving, self._reopen, self._idle = receiving, reopen, idle
        # The first monitor is fresh, and so is each that was made since the dispatcher could be reached again.
        self._fresh_since: float | None = time.monotonic()
        self._credits = window_frames is not None
        self._pace = AckPace(
            window_frames=window_frames, delay_s=CREDIT_DELAY_S if self._credits else RETIRE_DELAY_S
        )
        self._retires = retires
        self._leaf = leaf
        self._serial = 0
        self._lock = threading.Lock()
        self._done = {"processed": BitMap64(), "dropped": BitMap64(), "failed": BitMap64()}
        self._wake = threading.Event()
        self._ended = False
        self._joined = not self._credits
        self._told_at = self._interrupted_at = 0.0
        self._thread = threading.Thread(target=self._run, name="acks", daemon=True)

    def start(self) -> None:
        """Begin to report; the rank's monitor receives."""
        self._thread.start()

    def stop(self) -> None:
        """Report what is left and end."""
        self._ended = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=3 * RPC_TIMEOUT_S)

    def look(self) -> None:
        """Some frames are done: report now if that is worth it. On the frame loop's thread, after each burst."""
        if self._pace.enough(self._done_frames()):
            self._wake.set()

    def _done_frames(self) -> int:
        tally = self._tally
        return len(tally.processed) + len(tally.dropped) + len(tally.failed) + len(tally.again)

    def take(self) -> dict[str, BitMap64]:
        """What was done with which frames since the last call, for the heartbeat."""
        with self._lock:
            done, self._done = self._done, {name: BitMap64() for name in self._done}
        return done

    def _run(self) -> None:
        while True:
            self._wake.wait(LOOK_S)
            self._wake.clear()
            ended = self._ended
            try:
                self._report(at_once=ended)
            except Refused:
                logger.exception("the dispatcher refuses this rank")
                return
            if ended:
                return

    def _report(self, *, at_once: bool) -> None:
        if self._credits:
            self._keep_joined()
        tally, now = self._tally, time.monotonic()
        # Looked at before the tally is taken: what is done in between is told with it.
        has_none = self._idle()
        long_silent = now - self._told_at > IDLE_PERIOD_S
        if not (self._pace.due(self._done_frames(), now) or long_silent or at_once):
            return
        processed, dropped, failed = (
            take_keys(tally.processed),
            take_keys(tally.dropped),
            take_keys(tally.failed),
        )
        self._tell(processed, dropped, failed, idle=has_none)

    def _keep_joined(self) -> None:
        """A monitor that pvaccess has taken up again by itself is not used: what is sent before its first update may be
        lost. Nor is a search begun while nobody answers: its pauses would grow."""
        receiving = self._receiving()
        if self._joined and not receiving:
            self._begin_session()
        if self._joined:
            return
        if self._fresh_since is None:
            if self._told_at > self._interrupted_at:
                self._reopen()
                self._fresh_since = time.monotonic()
        elif receiving:
            self._exchange(Join(pool=self._pool, rank=self._rank, generation=self._session))
            self._joined = True
        elif time.monotonic() - self._fresh_since > FRESH_S:
            self._fresh_since, self._interrupted_at = None, time.monotonic()

    def _begin_session(self) -> None:
        """What was under way to this rank is lost."""
        logger.warning("session %d is over: frames on their way here are lost", self._session)
        self._session += 1
        self._joined = False
        self._fresh_since, self._interrupted_at = None, time.monotonic()

    def _tell(
        self, processed: Sequence[int], dropped: Sequence[int], failed: Sequence[int], *, idle: bool
    ) -> None:
        with self._lock:
            for name, keys in (("processed", processed), ("dropped", dropped), ("failed", failed)):
                self._done[name].update(keys)
        if self._credits:
            self._serial += 1
            answer = self._exchange(
                Progress(
                    pool=self._pool,
                    rank=self._rank,
                    generation=self._session,
                    serial=self._serial,
                    processed=_packed(processed),
                    dropped=_packed(dropped),
                    failed=tuple((key, "the processor raised") for key in failed),
                    idle=idle,
                )
            )
            if answer is not None and not answer.known and self._joined:
                self._begin_session()
        # A frame that a later pool drops or fails on is final too: no result of it will come.
        over = [*dropped, *failed]
        again = take_keys(self._tally.again)
        if self._retires:
            over += [*processed, *again]
        if self._leaf is not None and over:
            self._exchange(Retired(keys=_packed(over), leaf=self._leaf))
        self._told_at = time.monotonic()

    def _exchange(self, message: Any) -> Taken | None:
        """Say it until it is answered; None when the rank ends before."""
        while True:
            try:
                answer = self._caller.call(message, timeout_s=RPC_TIMEOUT_S)
            except WorldError as trouble:
                logger.warning("%s", trouble)
                if self._ended:
                    return None
                continue
            assert isinstance(answer, Taken)
            return answer


def _packed(keys: Sequence[int]) -> bytes:
    return encode_keys(keys) if keys else b""
