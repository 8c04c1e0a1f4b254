"""The collector's loop where its inputs bring parts of frames."""

from typing import Any

from beamcast.core.gather import PartGatherer
from beamcast.core.ids import EpochTracker, FixedEpoch, FrameId
from beamcast.core.reorder import ReorderWindow
from beamcast.pools.collector import CollectorLoop
from beamcast.pools.inputs import MonitoredChannel
from beamcast.pools.records import declared_record
from beamcast.pools.steering import Steering
from beamcast.pools.tally import Tally
from beamcast.pva.first_value import mark
from beamcast.pva.messages import Input


class Queue(list[Any]):
    def get(self, timeout: float) -> Any:
        return self.pop(0)


class Channel:
    """A monitor whose updates are plain numbers: the ids."""

    def __init__(self, producer: int, part: int) -> None:
        self.spec = Input(channel=f"c{producer}", request="", producer=producer, part=part)
        self.queue = Queue()
        self.probe, self.probe_id = object(), 0
        self.tracker = EpochTracker()
        self.observe = self.tracker.observe
        self.gathered: list[int] = []
        self.timed = False

    def note(self, update: Any) -> None:
        """These have no times."""

    def read_id(self, pv: int) -> int:
        return pv % 1000

    def is_first_value(self, frame_id: int, update: Any) -> bool:
        return not isinstance(update, int) and MonitoredChannel.is_first_value(self, frame_id, update)  # type: ignore[arg-type]


class Inputs:
    def __init__(self, channels: list[Channel]) -> None:
        self.channels = channels
        self.dead: list[Channel] = []

    @property
    def queued(self) -> int:
        return sum(len(channel.queue) for channel in self.channels)

    def probed(self) -> bool:
        return True


class Work:
    """Stops the loop when it has done what the test waits for."""

    def __init__(self, steering: Steering) -> None:
        self.steering = steering
        self.tally = Tally()
        self.done: list[tuple[int, tuple[int, ...]]] = []
        self.expected = 0
        self.busy_s = 0.0
        self.waiting = 0

    def do(self, pv: Any, key: int) -> None:
        self.done.append((key, pv))
        self.steering.stop = len(self.done) == self.expected

    def flush(self) -> None:
        """Nothing waits."""


def bench(producers: int, parts: int) -> tuple[CollectorLoop, list[Channel], Work, PartGatherer[Any]]:
    steering = Steering()
    channels = [Channel(producer, producer % parts) for producer in range(producers)]
    work = Work(steering)
    window: ReorderWindow[Any] = ReorderWindow(capacity=100, max_wait_s=0.05)
    gatherer: PartGatherer[Any] = PartGatherer(parts=parts, capacity=100, max_wait_s=0.05)
    loop = CollectorLoop(
        Inputs(channels),  # type: ignore[arg-type]
        work,  # type: ignore[arg-type]
        steering,
        window=window,
        gatherer=gatherer,
    )
    loop.start_producers()
    return loop, channels, work, gatherer


def test_frames_come_out_whole_and_in_order_though_sets_overtake_each_other() -> None:
    loop, channels, work, _ = bench(producers=4, parts=2)
    # Producers 0 and 1 share the even frames, 2 and 3 the odd ones; the update says whose part it is.
    for producer, channel in enumerate(channels):
        channel.queue += [1000 * producer + frame for frame in range(producer // 2, 10, 2)]
    work.expected = 10
    loop.run()
    assert [key for key, _ in work.done] == list(range(10))
    assert [pv for _, pv in work.done[:2]] == [(0, 1000), (2001, 3001)]
    assert channels[3].gathered == [1, 3, 5, 7, 9]


def test_a_frame_without_one_part_is_given_up_and_holds_nothing_back() -> None:
    loop, channels, work, gatherer = bench(producers=2, parts=2)
    channels[0].queue += [1, 2, 3]
    channels[1].queue += [1001, 1003]
    work.expected = 2
    loop.run()
    assert work.done == [(1, (1, 1001)), (3, (3, 1003))]
    assert (gatherer.held, gatherer.incomplete) in {(1, 0), (0, 1)}


def test_what_a_record_holds_before_any_frame_is_known_again() -> None:
    blank = declared_record({"sum": float})
    ours = mark(blank.copy(), ("uniqueId",))
    frame = blank.copy()
    frame["timeStamp"] = {"secondsPastEpoch": 1_700_000_000}
    channel = Channel(0, 0)
    assert channel.is_first_value(0, ours), "pvaccess has followed the next generation by itself"
    assert not channel.is_first_value(0, blank), "nothing has come: it may be a frame"
    channel.observe(FrameId(7))
    assert not channel.is_first_value(0, blank), "frames of this channel may have no times"
    channel.timed = True
    assert channel.is_first_value(0, blank), "a detector that was started again"
    assert not channel.is_first_value(0, frame), "a detector that begins again with 0"


def test_a_first_value_is_known_where_ids_may_come_in_any_order() -> None:
    """P3: with at-least-once delivery it was handed out as the result of frame 0."""
    channel = Channel(0, 0)
    channel.tracker = FixedEpoch()  # type: ignore[assignment]
    ours = mark(declared_record({"sum": float}), ("uniqueId",))
    assert channel.is_first_value(0, ours)
    assert not channel.is_first_value(0, declared_record({"sum": float})), "a frame without a time"
