"""Pushing results out of a cluster that nobody can connect to: by RPC, in order, until they are answered for.

The frame loop hands over what it publishes; a thread of its own sends what has gathered as one message, so a long way
costs latency and not throughput. What waits is bounded: when the beamline does not take results, the frame loop waits,
and the frames stay where they are counted. pvAccess `put` is not used: puts to one record coalesce.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from beamcast.core.errors import WorldError
from beamcast.pva.messages import Push, Taken
from beamcast.pva.portable import Bytes, to_parts
from beamcast.pva.rpc import RpcCaller, digest
from beamcast.security.secret import Refused

logger = logging.getLogger(__name__)

# Results that wait to be sent; small ones by number, large ones by their bytes.
MAX_WAITING = 4096
MAX_WAITING_BYTES = 256 << 20
# One message: large enough that its 0.3 ms and one round trip do not count, small enough to be sent again.
MAX_MESSAGE = 256
MAX_MESSAGE_BYTES = 8 << 20
RPC_TIMEOUT_S = 5.0
END_TIMEOUT_S = 5.0
# With nothing to send, say once in a while that this rank is there: the result server may be a new one.
IDLE_S = 1.0
LOOK_S = 0.25

Item = tuple[int, list[Bytes], int]


class Pusher:
    """Results of one rank, to the result server. `put` belongs to the frame loop, `open` comes before it."""

    def __init__(
        self,
        caller: RpcCaller,
        *,
        pool: str,
        rank: int,
        generation: int,
        should_stop: Callable[[], bool],
    ) -> None:
        self._caller = caller
        self._pool, self._rank, self._generation = pool, rank, generation
        self._should_stop = should_stop
        self._waiting: deque[Item] = deque()
        self._waiting_bytes = 0
        self._under_way = 0
        self._room = threading.Condition()
        self._ended = False
        self._record: list[Bytes] = []
        self._told_at = 0.0
        self._thread = threading.Thread(target=self._run, name="pusher", daemon=True)
        self.pushed = 0

    def open(self, record: Any) -> bool:
        """Show the result server what the results look like; it then serves them. False when told to stop before;
        Refused when it does not want them."""
        self._record = to_parts(record)
        if not self._exchange([(-1, self._record, 0)], keys=()):
            return False
        self._thread.start()
        return True

    def put(self, key: int, pv: Any) -> None:
        """Hand over one result. Waits while too much is waiting already; `pv` may be changed afterwards."""
        # The parts are views of arrays that are replaced when the frame loop uses its object again, never written over.
        parts = to_parts(pv)
        size = sum(part.nbytes for part in parts)
        with self._room:
            while self._is_full(size) and not self._ended and not self._should_stop():
                self._room.wait(LOOK_S)
            self._waiting.append((key, parts, size))
            self._waiting_bytes += size
            self._room.notify_all()

    def _is_full(self, size: int) -> bool:
        too_many = len(self._waiting) >= MAX_WAITING
        return too_many or (bool(self._waiting) and self._waiting_bytes + size > MAX_WAITING_BYTES)

    @property
    def waiting(self) -> int:
        """Results that the beamline has not answered for."""
        return len(self._waiting) + self._under_way

    def close(self) -> None:
        """Send what is left, for a few seconds at most, and end."""
        with self._room:
            self._ended = True
            self._room.notify_all()
        if self._thread.is_alive():
            self._thread.join(END_TIMEOUT_S + RPC_TIMEOUT_S)

    def _run(self) -> None:
        try:
            while (items := self._next()) is not None:
                keys = tuple(key for key, _, _ in items)
                if not self._exchange(items or [(-1, self._record, 0)], keys=keys):
                    return
                self.pushed += len(items)
                self._under_way = 0
        except Refused:
            logger.exception("the result server refuses this rank")

    def _next(self) -> list[Item] | None:
        """What is sent with the next message; nothing when it is time for a sign of life, None at the end."""
        with self._room:
            while not self._waiting:
                if self._ended:
                    return None
                if time.monotonic() - self._told_at > IDLE_S:
                    return []
                self._room.wait(LOOK_S)
            items = [self._waiting.popleft()]
            size = items[0][2]
            while (
                self._waiting and len(items) < MAX_MESSAGE and size + self._waiting[0][2] <= MAX_MESSAGE_BYTES
            ):
                items.append(self._waiting.popleft())
                size += items[-1][2]
            self._waiting_bytes -= size
            self._under_way = len(items)
            self._room.notify_all()
            return items

    def _exchange(self, items: Sequence[Item], *, keys: tuple[int, ...]) -> bool:
        """Say it until it is answered; False when the rank ends before."""
        parts = [part for _, parts, _ in items for part in parts]
        payload = np.concatenate([part.reshape(-1) for part in parts])
        message = Push(
            pool=self._pool,
            rank=self._rank,
            generation=self._generation,
            keys=keys,
            sizes=tuple(tuple(part.nbytes for part in parts) for _, parts, _ in items),
            digest=digest(payload),
        )
        while True:
            try:
                answer = self._caller.call(message, timeout_s=RPC_TIMEOUT_S, payload=payload)
            except WorldError as trouble:
                logger.warning("%s", trouble)
                if self._ended or self._should_stop():
                    return False
                continue
            self._told_at = time.monotonic()
            if isinstance(answer, Taken) and answer.known:
                return True
            # A result server that has taken the place of another one does not know what the results look like.
            if not self._exchange([(-1, self._record, 0)], keys=()):
                return False


def unpack(message: Push, payload: Bytes) -> list[list[Bytes]]:
    """The parts of each object, for `beamcast.pva.portable.from_parts`; ValueError when the sizes do not fit."""
    if (
        sum(map(sum, message.sizes)) != payload.nbytes
        or min((min(s, default=0) for s in message.sizes), default=0) < 0
    ):
        raise ValueError(f"{payload.nbytes} bytes came, the message speaks of {sum(map(sum, message.sizes))}")
    objects: list[list[Bytes]] = []
    at = 0
    for sizes in message.sizes:
        parts = []
        for size in sizes:
            parts.append(payload[at : at + size])
            at += size
        objects.append(parts)
    return objects
