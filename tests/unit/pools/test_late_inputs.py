"""Who takes another's place in a stream that flows: some of its inputs may be dead, or be replaced meanwhile."""

import pytest

from beamcast.core.errors import WorldError
from beamcast.core.reorder import ReorderWindow
from beamcast.pools.collector import CollectorLoop
from beamcast.pools.inputs import NEW_S, TAKEN_AGAIN_S, Inputs, look_at
from beamcast.pools.steering import Steering
from beamcast.pools.tally import Tally
from beamcast.pva.messages import Input
from unit.fake_channels import FAKE_CHANNELS, FakeChannel, FakeUpdate, put_in_place

UPDATE = FakeUpdate(uniqueId=7)
FRAME = FakeUpdate(uniqueId=8)


def spec(producer: int, generation: int = 0) -> Input:
    return Input(channel=f"c{producer}", request="field()", producer=producer, generation=generation)


@pytest.fixture
def inputs(monkeypatch: pytest.MonkeyPatch) -> Inputs:
    """Two channels, nothing has come."""
    put_in_place(monkeypatch)
    one = Inputs(queue_length=10, id_fields=("uniqueId",), epoch=0)
    one.follow((spec(0), spec(1)))
    return one


def never() -> bool:
    return False


def test_a_first_generation_waits_for_all(inputs: Inputs) -> None:
    FAKE_CHANNELS[0].queue.append(UPDATE)
    with pytest.raises(WorldError, match="no update came from c1 within"):
        inputs.wait_for_probes(timeout_s=0.1, should_stop=never)


def test_a_later_one_begins_with_those_that_are_there(inputs: Inputs) -> None:
    FAKE_CHANNELS[0].queue.append(UPDATE)
    assert inputs.wait_for_probes(timeout_s=5.0, should_stop=never, some_after_s=0.05)
    assert inputs.follows() == {0: 0}


def test_nobody_begins_with_none(inputs: Inputs) -> None:
    with pytest.raises(WorldError, match="no update came from c0, c1 within"):
        inputs.wait_for_probes(timeout_s=0.2, should_stop=never, some_after_s=0.05)


def test_who_waits_follows_an_input_that_is_replaced(inputs: Inputs) -> None:
    FAKE_CHANNELS[0].queue.append(UPDATE)
    news = [(spec(0), spec(1, generation=1))]

    def hear() -> tuple[Input, ...] | None:
        return news.pop() if news else None

    def stop() -> bool:
        if not news and inputs.channels[1].probe is None:
            inputs.channels[1].queue.append(UPDATE)
        return False

    assert inputs.wait_for_probes(timeout_s=5.0, should_stop=stop, news=hear)
    assert inputs.follows() == {0: 0, 1: 1}


class Unreachable(FakeChannel):
    """`dead` never connects; the others show a value at once."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.connected = name != "dead"

    def qMonitor(self, queue: list[FakeUpdate], request: str) -> None:  # noqa: N802
        super().qMonitor(queue, request)
        if self.connected:
            queue.append(UPDATE)


class Empty(Exception):
    """As pvaccess.QueueEmpty."""


class Impatient(list[FakeUpdate]):
    """A queue that does not wait."""

    def __init__(self, length: int) -> None:
        super().__init__()

    def get(self, timeout: float) -> FakeUpdate:
        if not self:
            raise Empty
        return self.pop(0)


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place(monkeypatch)
    monkeypatch.setattr("pvaccess.Channel", Unreachable)
    monkeypatch.setattr("pvaccess.PvObjectQueue", Impatient)
    monkeypatch.setattr("pvaccess.QueueEmpty", Empty)


@pytest.mark.usefixtures("unreachable")
def test_where_the_first_does_not_answer_another_is_looked_at() -> None:
    assert look_at("dead", "dead", "alive", timeout_s=5.0, should_stop=never) is UPDATE
    assert [channel.name for channel in FAKE_CHANNELS] == ["dead", "dead", "alive"]
    assert all(channel.stopped for channel in FAKE_CHANNELS), "one that connects later would go on sending"


@pytest.mark.usefixtures("unreachable")
def test_where_none_answers_the_time_is_bounded() -> None:
    with pytest.raises(WorldError, match=r"channel dead does not answer within 0.05 s"):
        look_at("dead", timeout_s=0.05, should_stop=never)


class Work:
    """Stops the loop at the third result."""

    def __init__(self, steering: Steering) -> None:
        self.steering, self.tally = steering, Tally()
        self.busy_s, self.waiting = 0.0, 0
        self.done: list[int] = []

    def do(self, pv: FakeUpdate, key: int) -> None:
        self.done.append(key)
        self.steering.stop = len(self.done) >= 3

    def flush(self) -> None:
        """Nothing waits."""


def begun_with_the_first(inputs: Inputs) -> tuple[CollectorLoop, Work]:
    """A collector that has begun when nothing had come from the second rank."""
    steering = Steering()
    work = Work(steering)
    window: ReorderWindow[FakeUpdate] = ReorderWindow(capacity=100, max_wait_s=60.0)
    loop = CollectorLoop(inputs, work, steering, window=window)  # type: ignore[arg-type]
    FAKE_CHANNELS[0].queue.append(UPDATE)
    assert inputs.wait_for_probes(timeout_s=5.0, should_stop=never, some_after_s=0.0)
    loop.start_producers()
    return loop, work


def test_a_collector_does_not_hold_results_back_for_a_dead_rank(inputs: Inputs) -> None:
    loop, work = begun_with_the_first(inputs)
    FAKE_CHANNELS[0].queue += [FRAME, FakeUpdate(uniqueId=9), FakeUpdate(uniqueId=10)]
    loop.run()
    assert work.done == [8, 9, 10]


def test_a_rank_that_comes_later_is_waited_for_as_the_others(inputs: Inputs) -> None:
    loop, work = begun_with_the_first(inputs)
    # While the other one's results never pause, the late one's first value is taken.
    FAKE_CHANNELS[0].queue += [FakeUpdate(uniqueId=9), FakeUpdate(uniqueId=11)]
    FAKE_CHANNELS[1].queue += [UPDATE, FRAME, FakeUpdate(uniqueId=10)]
    loop.run()
    assert work.done == [8, 9, 10, 11]
    assert inputs.follows() == {0: 0, 1: 0}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    monkeypatch.setattr("beamcast.pools.inputs.time", one)
    return one


def test_the_next_generation_gets_the_channel_of_its_predecessor(clock: Clock, inputs: Inputs) -> None:
    first = inputs.channels[1]
    inputs.follow((spec(0), spec(1, generation=1)))
    assert len(FAKE_CHANNELS) == 2, "no further one that searches"
    assert inputs.channels[1] is not first
    assert inputs.channels[1].queue is FAKE_CHANNELS[1].queue
    assert inputs.channels[1].queue is not first.queue
    for generation in range(2, 50):
        inputs.follow((spec(0), spec(1, generation=generation)))
        clock.now += 10.0
    assert len(FAKE_CHANNELS) == 2


def test_one_that_shows_nothing_is_replaced_a_few_times(clock: Clock, inputs: Inputs) -> None:
    inputs.channels[0].queue.append(UPDATE)
    assert not inputs.probed()
    inputs.follow((spec(0), spec(1, generation=1)))
    clock.now += TAKEN_AGAIN_S / 2
    inputs.try_again()
    assert len(FAKE_CHANNELS) == 2
    clock.now += TAKEN_AGAIN_S
    inputs.try_again()
    assert len(FAKE_CHANNELS) == 3, "connected or not: its monitor may be dead, or its connection half open"
    assert inputs.channels[1].queue is FAKE_CHANNELS[2].queue
    clock.now += NEW_S + 1.0
    inputs.try_again()
    assert len(FAKE_CHANNELS) == 3, "a new one that is connected: its first update is large"
    FAKE_CHANNELS[2].connected = False
    for _ in range(100):
        inputs.try_again()
        clock.now += NEW_S
    assert len(FAKE_CHANNELS) == 4, "its producer is dead, or the controller will tell"


def test_one_that_has_shown_something_is_not_replaced(clock: Clock, inputs: Inputs) -> None:
    for channel in inputs.channels:
        channel.queue.append(UPDATE)
    clock.now += NEW_S + 1.0
    inputs.try_again()
    assert inputs.probed()
    FAKE_CHANNELS[0].connected = False
    inputs.try_again()
    assert len(FAKE_CHANNELS) == 2


def test_a_first_channel_is_left_to_pvaccess(clock: Clock, inputs: Inputs) -> None:
    FAKE_CHANNELS[0].connected = FAKE_CHANNELS[1].connected = False
    clock.now += 10 * NEW_S
    inputs.try_again()
    assert len(FAKE_CHANNELS) == 2
