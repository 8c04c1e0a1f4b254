"""Many ranks in one process, thin: they register, report and obey as real ones do, and touch no frame.

    python scale_clients.py RUN_DIR FIRST LAST SIZE RATE_HZ FRAMES OUT

Ranks FIRST..LAST-1 of pool `work`, of SIZE, and with FIRST 0 the collector too. Which frames they claim to have
processed follows from the time since the order to start, so that in the end each frame of the simulator has been
processed once.
"""

import heapq
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from beamcast.core.errors import WorldError
from beamcast.core.keyset import encode_keys
from beamcast.members.join import SECRET_FILE, Join, read_join
from beamcast.pva import messages
from beamcast.pva.environment import apply_environment, client_environment
from beamcast.pva.messages import (
    Answer,
    Delta,
    Heartbeat,
    MemberId,
    Orders,
    Registration,
    Request,
    Unwelcome,
    Versions,
    Welcome,
    Whereabouts,
)
from beamcast.pva.rpc import RpcCaller
from beamcast.security.secret import RunSecret

POOL, COLLECTOR = "work", "collect"
RPC_TIMEOUT_S = 30.0
ATTEMPTS = 5
# A thin rank claims a frame this long after it was due at the source, by when the mirror's witness has told of it.
LAG_S = 1.0


class Stream:
    """Which ids are due, by the simulator's clock."""

    def __init__(self, rate_hz: float, frames: int) -> None:
        self._rate_hz = rate_hz
        self.frames = frames
        self._began: float | None = None

    def begin(self, now: float) -> None:
        """The order to start has come."""
        self._began = self._began or now

    def due(self, now: float) -> int:
        """How many frames are through."""
        if self._began is None:
            return 0
        return max(0, min(self.frames, int((now - self._began - LAG_S) * self._rate_hz)))


class ThinRank:
    """One rank's part of the conversation."""

    def __init__(self, identity: MemberId, size: int, caller: RpcCaller, stream: Stream) -> None:
        self.identity = identity
        self._size = size
        self._caller = caller
        self._stream = stream
        self._state = "registered"
        self._serves: tuple[str, ...] = ()
        self._follows: dict[int, int] = {}
        self._sequence = 0
        self._claimed = 0
        self.heartbeat_s = 0.0
        self.done = False
        self.ready_at: float | None = None

    def register(self, address: str, port: int) -> None:
        """Join the run."""
        rank, size = self.identity.rank, self._size
        where = Whereabouts(
            host=f"thin{rank // 8}", pid=1, address=address, port=port, node_index=rank // 8, nodes=-(-size // 8),
            local_rank=rank % 8, local_size=min(8, size - rank // 8 * 8), size=size,
        )  # fmt: skip
        request = Registration(
            member=self.identity,
            whereabouts=where,
            versions=Versions(beamcast="thin", python="3", pvapy="thin"),
        )
        answer = self._ask(request)
        if not isinstance(answer, Welcome):
            raise SystemExit(f"{self.identity} is not welcome: {answer}")
        assert answer.duty is not None
        duty = answer.duty
        self._channels = (duty.output_channel, duty.status_channel, duty.control_channel)
        self.heartbeat_s = answer.heartbeat_s

    def beat(self, now: float) -> None:
        """One exchange, and what follows from the orders."""
        self._sequence += 1
        due = self._stream.due(now)
        beat = Heartbeat(
            member=self.identity,
            state=self._state,
            sequence=self._sequence,
            heard=self._sequence - 1,
            delta=self._delta(due),
            counters=messages.Counters(received=due, processed=due, queued=1, busy_s=now),
            serves=self._serves,
            follows=self._follows,
            facts={"stuck_s": 0.0},
        )
        self._claimed = due
        answer = self._ask(beat)
        if self._state == "finished" or (self._state == "drained" and isinstance(answer, Unwelcome)):
            self.done = True
        elif isinstance(answer, Orders):
            self._obey(answer, now)
        else:
            raise SystemExit(f"{self.identity} is not wanted: {answer}")

    def _ask(self, request: Request) -> Answer:
        """As members do: what was not answered is asked once more."""
        for left in reversed(range(ATTEMPTS)):
            try:
                return self._caller.call(request, timeout_s=RPC_TIMEOUT_S)
            except WorldError:
                if not left:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _delta(self, due: int) -> Delta:
        if due == self._claimed:
            return Delta()
        if self.identity.pool == POOL:
            keys = encode_keys(
                range(_next(self._claimed, self.identity.rank, self._size), due + 1, self._size)
            )
            return Delta(received=keys, processed=keys)
        by_producer: dict[int, list[int]] = {}
        for key in range(self._claimed + 1, due + 1):
            by_producer.setdefault((key - 1) % self._stream_size, []).append(key)
        gathered = {producer: encode_keys(keys) for producer, keys in by_producer.items()}
        return Delta(gathered=gathered, processed=encode_keys(range(self._claimed + 1, due + 1)))

    @property
    def _stream_size(self) -> int:
        return len(self._follows)

    def _obey(self, orders: Orders, now: float) -> None:
        self.heartbeat_s = orders.heartbeat_s
        if orders.start:
            self._stream.begin(now)
        if self._state == "registered" and orders.probe is not None:
            self._state, self._serves, self.heartbeat_s = "serving", self._channels, 0.0
        elif self._state == "serving" and orders.connect is not None:
            self._follows = {one.producer: one.generation for one in orders.connect}
            self._state, self.heartbeat_s, self.ready_at = "ready", 0.0, now
        elif orders.drain and self._claimed == self._stream.frames:
            self._state = "drained"
        if orders.stop:
            self._state, self.heartbeat_s = "finished", 0.0


def _next(claimed: int, rank: int, size: int) -> int:
    """The first id after `claimed` that is this rank's: ids count from 1, rank r has those that leave r over."""
    return claimed + 1 + (rank - claimed) % size


def members(
    join: Join, secret: RunSecret, first: int, last: int, size: int, stream: Stream
) -> Iterator[ThinRank]:
    """The ranks of this process. They share one connection: the messages are those of as many processes."""
    shared: RpcCaller | None = None
    ids = [MemberId(kind="rank", pool=POOL, rank=rank) for rank in range(first, last)]
    for identity in [*ids, *([MemberId(kind="rank", pool=COLLECTOR)] if first == 0 else [])]:
        caller = RpcCaller(join.rpc_channel, secret=secret, sender=f"{identity}#thin")
        if shared is None:
            shared = caller
        else:
            caller.share(shared)
        yield ThinRank(identity, size if identity.pool == POOL else 1, caller, stream)


def main() -> None:
    """Run until every rank of this process has finished; facts go to OUT."""
    run_dir, first, last, size, rate_hz, frames, out = sys.argv[1:]
    join = read_join(Path(run_dir))
    apply_environment(client_environment([join.name_server]))
    secret = RunSecret.read(Path(run_dir) / SECRET_FILE)
    stream = Stream(float(rate_hz), int(frames))
    ranks = list(members(join, secret, int(first), int(last), int(size), stream))
    began, latest = time.monotonic(), 0.0
    beats: Counter[int] = Counter()
    due: list[tuple[float, int]] = []
    for index, rank in enumerate(ranks):
        rank.register("127.0.0.1", 1)
        heapq.heappush(due, (time.monotonic() + rank.heartbeat_s, index))
    registered_s = time.monotonic() - began
    while due:
        at, index = heapq.heappop(due)
        time.sleep(max(0.0, at - time.monotonic()))
        now = time.monotonic()
        latest = max(latest, now - at)
        ranks[index].beat(now)
        beats[int(now)] += 1
        if not ranks[index].done:
            heapq.heappush(due, (now + ranks[index].heartbeat_s, index))
    Path(out).write_text(json.dumps({"registered_s": registered_s, "beats": beats, "latest_s": latest}))
    sys.stdout.flush()


if __name__ == "__main__":
    import os

    main()
    os._exit(0)
