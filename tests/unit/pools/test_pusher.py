"""Pushing results: in order, until they are answered for, never more than there is room for."""

import threading
import time
from typing import Any

import numpy as np
import pvaccess
import pytest

from beamcast.core.errors import WorldError
from beamcast.pools.pusher import Pusher, unpack
from beamcast.pva.messages import Push, Taken
from beamcast.pva.portable import from_parts
from beamcast.pva.rpc import digest


class Line:
    """Stands for the way to the result server; loses the first `lost` answers."""

    def __init__(self, lost: int = 0) -> None:
        self.messages: list[tuple[Push, Any]] = []
        self.open = threading.Event()
        self.open.set()
        self._lost = lost

    def call(self, message: Push, *, timeout_s: float, payload: Any) -> Taken:
        self.open.wait(10)
        self.messages.append((message, payload))
        if self._lost:
            self._lost -= 1
            raise WorldError("no answer", retry_may_help=True)
        return Taken()

    def results(self) -> list[tuple[int, int]]:
        """Keys with the values that came, in order, with repeats."""
        found = []
        for message, payload in self.messages:
            assert digest(payload) == message.digest
            objects = [from_parts(parts) for parts in unpack(message, payload)]
            found += [
                (key, one["value"]) for key, one in zip(message.keys, objects, strict=bool(message.keys))
            ]
        return found


def value(number: int) -> Any:
    return pvaccess.PvObject({"value": pvaccess.INT}, {"value": number})


def pusher(line: Line) -> Pusher:
    return Pusher(line, pool="p", rank=0, generation=0, should_stop=lambda: False)  # type: ignore[arg-type]


def test_the_first_message_shows_what_results_look_like() -> None:
    line = Line()
    one = pusher(line)
    assert one.open(value(0))
    one.close()
    message, payload = line.messages[0]
    assert message.keys == ()
    assert from_parts(unpack(message, payload)[0]).getStructureDict() == value(0).getStructureDict()


def test_results_come_in_order_and_many_in_one_message() -> None:
    line = Line()
    one = pusher(line)
    one.open(value(0))
    line.open.clear()
    for number in range(500):
        one.put(number, value(number * 2))
    line.open.set()
    one.close()
    assert line.results() == [(number, number * 2) for number in range(500)]
    assert len(line.messages) < 20
    assert one.waiting == 0


def test_a_message_without_an_answer_is_repeated_unchanged() -> None:
    line = Line()
    one = pusher(line)
    one.open(value(0))
    line._lost = 2
    one.put(7, value(70))
    deadline = time.monotonic() + 10
    while one.waiting and time.monotonic() < deadline:
        time.sleep(0.01)
    one.close()
    assert [pair for pair in line.results() if pair[0] == 7] == [(7, 70)] * 3


def test_who_hands_over_more_than_there_is_room_for_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beamcast.pools.pusher.MAX_WAITING", 3)
    line = Line()
    one = pusher(line)
    one.open(value(0))
    line.open.clear()
    producer = threading.Thread(target=lambda: [one.put(number, value(number)) for number in range(10)])
    producer.start()
    producer.join(0.5)
    assert producer.is_alive(), "ten results, room for three and one message"
    line.open.set()
    producer.join(10)
    one.close()
    assert [key for key, _ in line.results()] == list(range(10))


@pytest.mark.parametrize("sizes", [((3,),), ((5,),), ((-1, 5),)])
def test_sizes_that_do_not_fit_are_refused(sizes: tuple[tuple[int, ...], ...]) -> None:
    message = Push(pool="p", rank=0, generation=0, keys=(1,), sizes=sizes, digest=b"")
    with pytest.raises(ValueError, match="bytes came"):
        unpack(message, np.zeros(4, np.uint8))
