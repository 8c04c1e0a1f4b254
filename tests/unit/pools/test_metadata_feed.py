"""How long a frame waits for its row: channels and queues that do as they are told, and a clock that they turn."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from beamcast.core.errors import WorldError
from beamcast.core.ids import ID_BITS, FrameKey
from beamcast.core.joining import Row
from beamcast.pools import metadata
from beamcast.pools.metadata import LATEST_S, MetadataFeed
from beamcast.pva.metadata import pack_batch

PATIENCE_S = 1.0


class Empty(Exception):
    """As `pvaccess.QueueEmpty`."""


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Queue:
    """`due`: (when, rows first to last) in order; waiting for them turns the clock."""

    def __init__(self, clock: Clock, due: list[tuple[float, int, int]]) -> None:
        self._clock, self._due = clock, due

    def __len__(self) -> int:
        return sum(when <= self._clock.now for when, _, _ in self._due)

    def get(self, timeout_s: float) -> Any:
        if not self._due or self._due[0][0] > self._clock.now + timeout_s:
            self._clock.now += timeout_s
            raise Empty
        when, first, last = self._due.pop(0)
        self._clock.now = max(self._clock.now, when)
        rows = []
        for key in range(first, last + 1):
            row = Row(FrameKey(key), None, seen_at=0.0, columns=1)
            row.values[0] = float(key)
            rows.append(row)
        return {"rows": len(rows), "batch": list(pack_batch(rows, serial=1))}


Make = Callable[[list[tuple[float, int, int]]], tuple[MetadataFeed, Clock]]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """A feed to which batches come when they are due, and its clock."""

    def made(due: list[tuple[float, int, int]]) -> tuple[MetadataFeed, Clock]:
        clock = Clock()
        monkeypatch.setattr(metadata, "time", clock)
        monkeypatch.setattr("pvaccess.PvObjectQueue", lambda length: Queue(clock, due))
        monkeypatch.setattr("pvaccess.Channel", lambda name: SimpleNamespace(qMonitor=lambda *_: None))
        monkeypatch.setattr("pvaccess.QueueEmpty", Empty)
        return MetadataFeed("md", capacity=1000, patience_s=PATIENCE_S, should_stop=lambda: False), clock

    return made


def found(feed: MetadataFeed, key: int) -> bool:
    return feed.row(FrameKey(key)) is not None


def test_a_row_is_waited_for_as_long_as_batches_come(make: Make) -> None:
    feed, clock = make([(0.8 * n, 10 * n + 1, 10 * n + 10) for n in range(6)])
    assert found(feed, 55)
    assert clock.now == pytest.approx(4.0)
    assert feed.waited_s == pytest.approx(4.0)


def test_where_nothing_comes_a_frame_goes_without_and_the_next_ones_do_not_wait_as_well(make: Make) -> None:
    feed, clock = make([(0.0, 1, 10), (30.0, 21, 30)])
    assert not found(feed, 15)
    assert PATIENCE_S < clock.now < PATIENCE_S + 0.2
    gave_up_at = clock.now
    assert not found(feed, 16)
    assert clock.now == gave_up_at
    clock.now = 30.0
    assert found(feed, 21)


def test_rows_that_come_for_ever_without_the_one_that_is_asked_for_are_not_waited_for_for_ever(
    make: Make,
) -> None:
    feed, clock = make([(0.5 * n, n + 1, n + 1) for n in range(100)])
    assert not found(feed, 1_000_000)
    assert LATEST_S < clock.now < LATEST_S + 1.0


def test_rows_of_an_earlier_epoch_do_not_lengthen_the_wait(make: Make) -> None:
    feed, clock = make([(0.5 * n, n + 1, n + 1) for n in range(100)])
    assert not found(feed, (1 << ID_BITS) + 5)
    assert PATIENCE_S < clock.now < PATIENCE_S + 0.7


def test_a_row_that_was_left_out_is_known_as_soon_as_a_later_one_is_here(make: Make) -> None:
    feed, clock = make([(0.0, 1, 10), (0.2, 12, 20)])
    assert not found(feed, 11)
    assert clock.now == pytest.approx(0.2)


def test_the_first_generation_waits_for_whoever_joins(make: Make) -> None:
    feed, _ = make([(5.0, 1, 10)])
    assert feed.connect(timeout_s=30.0)
    assert found(feed, 5)
    feed, _ = make([])
    with pytest.raises(WorldError, match="no update came from the metadata channel md within 30 s"):
        feed.connect(timeout_s=30.0)


def test_who_takes_anothers_place_goes_on_without_and_takes_what_comes_later(make: Make) -> None:
    feed, clock = make([(5.0, 1, 10)])
    assert feed.connect(timeout_s=30.0, without_after_s=2.0)
    assert clock.now == pytest.approx(2.0, abs=0.01)
    assert not found(feed, 1)
    clock.now = 5.0
    assert found(feed, 5)
