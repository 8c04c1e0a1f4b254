"""What a rank tells the dispatcher when its monitor is interrupted."""

from typing import Any

import pytest

from beamcast.pools import acks
from beamcast.pools.acks import Acks
from beamcast.pools.tally import Tally
from beamcast.pva.messages import Join, Progress, Taken


class Dispatcher:
    """Answers everything, and keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.knows = True

    def call(self, message: Any, *, timeout_s: float) -> Taken:
        self.told.append(message)
        return Taken(known=self.knows or isinstance(message, Join))

    @property
    def joins(self) -> list[int]:
        return [each.generation for each in self.told if isinstance(each, Join)]

    @property
    def last(self) -> Progress:
        return [each for each in self.told if isinstance(each, Progress)][-1]


class Bench:
    """A rank's reports, made by hand: each `report` is one look of its thread."""

    def __init__(self) -> None:
        self.dispatcher = Dispatcher()
        self.receiving = True
        self.idle = False
        self.reopened = 0
        self.tally = Tally()
        self.acks = Acks(
            self.tally,
            self.dispatcher,  # type: ignore[arg-type]
            pool="work",
            rank=3,
            generation=0,
            window_frames=8,
            retires=False,
            leaf=None,
            receiving=lambda: self.receiving,
            reopen=self.reopen,
            idle=lambda: self.idle,
        )

    def reopen(self) -> None:
        self.reopened += 1

    def report(self) -> None:
        self.acks._report(at_once=True)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_rank_joins_once_and_says_whether_it_has_frames(bench: Bench) -> None:
    bench.report()
    bench.idle = True
    bench.report()
    assert bench.dispatcher.joins == [0]
    assert bench.dispatcher.last.idle
    assert bench.reopened == 0


def test_after_an_interruption_a_fresh_monitor_is_made_once_the_dispatcher_answers(bench: Bench) -> None:
    bench.report()
    bench.receiving = False
    bench.report()  # notices, and reaches the dispatcher
    assert bench.reopened == 0
    bench.report()
    assert bench.reopened == 1
    assert bench.dispatcher.joins == [0], "not before its first update"
    bench.receiving = True
    bench.report()
    assert bench.dispatcher.joins == [0, 1]
    assert bench.reopened == 1


def test_an_old_monitor_that_works_again_is_not_used(bench: Bench) -> None:
    bench.report()
    bench.receiving = False
    bench.report()
    bench.receiving = True
    bench.report()
    assert bench.reopened == 1


def test_a_rank_that_is_not_known_any_more_joins_again_with_a_fresh_monitor(bench: Bench) -> None:
    bench.report()
    bench.dispatcher.knows = False
    bench.report()
    bench.report()
    assert bench.reopened == 1
    bench.dispatcher.knows = True
    bench.report()
    assert bench.dispatcher.joins == [0, 1]


def test_a_fresh_monitor_that_stays_without_an_update_is_left_for_another(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.report()
    bench.receiving = False
    bench.report()
    bench.report()
    monkeypatch.setattr(acks, "FRESH_S", 0.0)
    bench.report()
    bench.report()
    assert bench.reopened == 2
    assert bench.dispatcher.joins == [0]


def test_what_is_done_meanwhile_is_not_forgotten(bench: Bench) -> None:
    bench.report()
    bench.receiving = False
    bench.tally.processed.append(7)
    bench.report()
    assert list(bench.acks.take()["processed"]) == [7]
