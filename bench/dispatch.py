"""What the dispatcher's decisions cost per frame, beside the least a Python dispatcher could do.

One run: frames come in one by one, ranks ack in batches of 32, and the collector retires the same batches. The naive
dispatcher keeps a dict per rank and takes `min` over the ranks: no windows in bytes, no spill, no second attempt, no
final state. Nothing is sent: what is measured is deciding.

    python bench/dispatch.py [--frames 100000]
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable

from pyroaring import BitMap64

from beamcast.core.dispatch import Dispatcher, RetryRules
from beamcast.core.dispatch_protocol import Ack, Action, Release, Send
from beamcast.core.replay import ReplayLimits

WINDOW = 128
ACK_EVERY = 32
SIZE_BYTES = 512 * 512
FIRST_ROUND = 20_000  # frames of the round that only warms up


class Naive:
    """Fewest in flight by `min`; forgets a frame when it is acked."""

    def __init__(self, ranks: int) -> None:
        self.in_flight: list[dict[int, bool]] = [{} for _ in range(ranks)]

    def frame(self, key: int) -> int:
        rank = min(range(len(self.in_flight)), key=lambda each: len(self.in_flight[each]))
        self.in_flight[rank][key] = True
        return rank

    def ack(self, rank: int, keys: BitMap64) -> None:
        for key in keys:
            del self.in_flight[rank][key]


def drive_naive(frames: int, ranks: int) -> float:
    """Return seconds."""
    naive, sent = Naive(ranks), defaultdict[int, list[int]](list)
    start = time.perf_counter()
    for key in range(frames):
        rank = naive.frame(key)
        mine = sent[rank]
        mine.append(key)
        if len(mine) == ACK_EVERY:
            naive.ack(rank, BitMap64(mine))
            mine.clear()
    return time.perf_counter() - start


def drive_dispatcher(frames: int, ranks: int) -> float:
    """Return seconds, the caller's walk over the actions included."""
    limits = ReplayLimits(max_bytes=(ranks * WINDOW * 2) * SIZE_BYTES)
    dispatcher = Dispatcher(limits, RetryRules())
    for rank in range(ranks):
        dispatcher.rank_joined(rank, 0, window_frames=WINDOW, window_bytes=WINDOW * SIZE_BYTES)
    sent, payloads = defaultdict[int, list[int]](list), dict[int, object]()
    serial = 0

    def act(actions: list[Action]) -> None:
        for action in actions:
            if type(action) is Send:
                sent[action.rank].append(action.key)
            elif type(action) is Release:
                del payloads[action.key]

    start = time.perf_counter()
    for key in range(frames):
        payloads[key] = None
        actions = dispatcher.frame(key, SIZE_BYTES)
        act(actions)
        rank = actions[0].rank  # type: ignore[union-attr]
        if len(sent[rank]) == ACK_EVERY:
            keys = BitMap64(sent[rank])
            sent[rank].clear()
            serial += 1
            act(dispatcher.ack(Ack(rank, 0, serial, processed=keys), now=0.0))
            act(dispatcher.retired(keys))
    return time.perf_counter() - start


def main() -> None:
    """Print one line per number of ranks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000)
    frames = parser.parse_args().frames
    subjects: dict[str, Callable[[int, int], float]] = {"naive": drive_naive, "dispatcher": drive_dispatcher}
    for ranks in (4, 64, 512):
        for name, drive in subjects.items():
            drive(FIRST_ROUND, ranks)
            seconds = drive(frames, ranks)
            cost_us, rate = 1e6 * seconds / frames, frames / seconds
            print(f"{ranks:4d} ranks  {name:10s}  {cost_us:6.2f} µs/frame  {rate:9.0f} frames/s")


if __name__ == "__main__":
    main()
