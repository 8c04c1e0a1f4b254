"""Reading one PV of results: what is a result, what came twice, what is missing between."""

from collections.abc import Iterator
from typing import Any

import pvaccess

from beamcast.pva.results import SHOWN_RANGES, ResultStream

FIELDS = {"uniqueId": pvaccess.LONG, "timeStamp": pvaccess.PvTimeStamp(), "total": pvaccess.DOUBLE}


class FakeMonitor:
    """Gives what was put into it."""

    def __init__(self) -> None:
        self.updates: list[Any] = []
        self.reopened = 0
        self.connected = True

    def put(self, *updates: Any) -> None:
        self.updates += updates

    def take(self) -> Iterator[Any]:
        updates, self.updates = self.updates, []
        return iter(updates)

    def dead(self, now: float) -> bool:
        return now > 100

    def reopen(self) -> None:
        self.reopened += 1

    def dropped(self) -> int:
        return 7

    def close(self) -> None:
        pass


def update(number: int, *, seconds: int | None = None) -> Any:
    stamp = {
        "secondsPastEpoch": 1000 + number if seconds is None else seconds,
        "nanoseconds": 0,
        "userTag": 0,
    }
    return pvaccess.PvObject(FIELDS, {"uniqueId": number, "timeStamp": stamp, "total": 0.5})


def stream(*updates: Any) -> tuple[ResultStream, FakeMonitor]:
    monitor = FakeMonitor()
    one = ResultStream("a:pv", ("frame", "uniqueId"), monitor)
    assert not one.seen()
    monitor.put(*updates)
    assert one.seen()
    return one, monitor


def ids(one: ResultStream) -> list[int | None]:
    return [result.id for result in one.take()]


def test_what_a_record_shows_before_its_first_result_is_none() -> None:
    one, monitor = stream(update(0, seconds=0), update(1))
    assert one.first is None
    assert ids(one) == [1]
    monitor.put(update(2), update(0, seconds=0), update(3))  # its server was restarted in between
    assert ids(one) == [2, 3]


def test_the_present_value_comes_first_and_once() -> None:
    one, monitor = stream(update(5))
    assert one.first is not None
    assert one.first["total"] == 0.5
    monitor.put(update(6))
    assert ids(one) == [5, 6]
    monitor.put(update(6), update(7))  # after a reconnect
    assert ids(one) == [7]


def test_a_source_without_times_or_with_one_id_loses_nothing() -> None:
    """C10's brother: ids that repeat are shown, unless the time says that it is the same update."""
    one, monitor = stream(update(3, seconds=0))
    monitor.put(update(3, seconds=0), update(3, seconds=0))
    assert ids(one) == [3, 3, 3]
    monitor.put(update(3, seconds=5), update(3, seconds=6))
    assert ids(one) == [3, 3]


def test_missing_ids_are_named_however_far_apart_they_are() -> None:
    one, monitor = stream(update(1))
    monitor.put(update(2), update(5), update(7), update(2**40))
    assert len(ids(one)) == 5
    assert one.missing() == f"3-4,6,8-{2**40 - 1}"
    monitor.put(*[update(2**40 + 2 * number) for number in range(1, SHOWN_RANGES + 5)])
    ids(one)
    assert one.missing().endswith("… (+7 ranges)")
    monitor.put(update(1), update(2))  # ids begin again
    ids(one)
    assert one.missing() == ""


def test_a_pv_that_comes_back_with_another_structure_is_read_on() -> None:
    one, monitor = stream(update(1))
    monitor.put(
        pvaccess.PvObject({"frame": pvaccess.INT}, {"frame": 9}), pvaccess.PvObject({"value": pvaccess.INT})
    )
    assert ids(one) == [1, 9, None]


def test_a_dead_monitor_is_made_anew() -> None:
    one, monitor = stream(update(1))
    assert one.look(1.0) is None
    assert monitor.reopened == 0
    one.look(101.0)
    assert monitor.reopened == 1
    assert one.overruns() == 7


def test_a_pv_that_goes_and_comes_back_is_told_once_each() -> None:
    one, monitor = stream(update(1))
    assert one.look(1.0) is None
    monitor.connected = False
    assert [one.look(2.0), one.look(3.0)] == [False, None]
    monitor.connected = True
    assert [one.look(4.0), one.look(5.0)] == [True, None]
