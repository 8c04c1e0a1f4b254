"""The dispatcher, one promise at a time."""

import math

import pytest
from pyroaring import BitMap64

from beamcast.core.dispatch import DISK_RETRY_S, Dispatcher, RetryRules
from beamcast.core.dispatch_protocol import (
    Ack,
    Action,
    Dismiss,
    DropNewest,
    FailOut,
    Final,
    Release,
    Send,
    Spill,
    Unspill,
)
from beamcast.core.replay import Overflow, ReplayLimits

ROOMY = ReplayLimits(max_bytes=10_000)
SPILLING = ReplayLimits(max_bytes=30, overflow=Overflow.SPILL, spill_buffer_bytes=20, disk_bytes=50)


def dispatcher(
    ranks: int = 0,
    *,
    limits: ReplayLimits = ROOMY,
    rules: RetryRules = RetryRules(),  # noqa: B008 (frozen)
    window: int = 4,
) -> Dispatcher:
    made = Dispatcher(limits, rules)
    for rank in range(ranks):
        join(made, rank, window=window)
    return made


def join(made: Dispatcher, rank: int, generation: int = 0, *, window: int = 4) -> list[Action]:
    return made.rank_joined(rank, generation, window_frames=window, window_bytes=1000)


def feed(made: Dispatcher, *keys: int, size: int = 10) -> list[Action]:
    return [action for key in keys for action in made.frame(key, size)]


def sends(actions: list[Action]) -> list[tuple[int, int]]:
    return [(action.rank, action.key) for action in actions if isinstance(action, Send)]


def processed(
    made: Dispatcher, rank: int, serial: int, *keys: int, generation: int = 0, now: float = 0.0
) -> list[Action]:
    return made.ack(Ack(rank, generation, serial, processed=BitMap64(keys)), now=now)


def test_idle_ranks_take_turns_and_the_busy_one_is_passed_over() -> None:
    made = dispatcher(3)
    assert sends(feed(made, 1, 2, 3, 4)) == [(0, 1), (1, 2), (2, 3), (0, 4)]
    processed(made, 1, 1, 2)
    assert sends(feed(made, 5, 6)) == [(1, 5), (2, 6)]


@pytest.mark.parametrize(("per_step", "expected"), [(4, [400, 400, 400, 100]), (3, None)])
def test_ranks_of_unequal_speed_are_used_up_to_the_sum_of_their_rates(
    per_step: int, expected: list[int] | None
) -> None:
    """Rank 3 is four times slower; together they do 3.25 frames a step. In turns, they would do 1."""
    made = dispatcher(4, window=8)
    got, queues = [0, 0, 0, 0], [list[int]() for _ in range(4)]
    for step in range(400):
        actions = feed(made, *range(per_step * step, per_step * (step + 1)), size=1)
        for rank in range(4):
            if queues[rank] and (rank < 3 or step % 4 == 0):
                key = queues[rank].pop(0)
                got[rank] += 1
                actions += processed(made, rank, step, key) + made.retired([key])
        for rank, key in sends(actions):
            queues[rank].append(key)
    if expected is None:
        assert sum(got) >= 3 * 400 - 4 * 8  # all that came
    else:
        assert got == pytest.approx(expected, abs=2)


def test_the_window_counts_frames_and_bytes() -> None:
    made = dispatcher()
    made.rank_joined(0, 0, window_frames=2, window_bytes=1000)
    made.rank_joined(1, 0, window_frames=9, window_bytes=25)
    assert sends(feed(made, 1, 2, 3, 4, 5)) == [(0, 1), (1, 2), (0, 3), (1, 4)]
    assert made.gauges().waiting_frames == 1
    assert sends(processed(made, 0, 1, 1)) == [(0, 5)]


def test_credit_returns_with_the_ack_and_the_frame_stays_until_it_is_retired() -> None:
    made = dispatcher(1, window=1)
    feed(made, 1, 2)
    assert sends(processed(made, 0, 1, 1)) == [(0, 2)]
    assert made.gauges().held_bytes == 20
    assert made.retired([1, 1]) == [Release(1, Final.RETIRED)]
    assert made.retired([1]) == []
    assert made.gauges().held_bytes == 10


def test_a_retired_frame_still_takes_its_place_in_the_queue_of_a_rank() -> None:
    made = dispatcher(1, window=1)
    feed(made, 1)
    made.retired([1])
    assert feed(made, 2) == []
    assert sends(processed(made, 0, 1, 1)) == [(0, 2)]


def test_what_a_dead_rank_had_goes_first_and_in_order() -> None:
    made = dispatcher(2)
    feed(made, *range(1, 10))
    assert made.gauges().waiting_frames == 1
    assert made.rank_died(0, 0) == []  # rank 1 is full
    assert made.rank_silent(0, 0) == []  # nobody knows it any more
    again = processed(made, 1, 1, 2, 4, 6, 8)
    assert again == [Send(1, 1, 2), Send(1, 3, 2), Send(1, 5, 2), Send(1, 7, 2)]
    assert sends(processed(made, 1, 2, 1, 3, 5, 7)) == [(1, 9)]


def test_results_that_died_with_their_rank_are_made_again() -> None:
    made = dispatcher(2, window=1)
    feed(made, 1, 2)
    processed(made, 0, 1, 1)
    made.rank_died(0, 0, results_lost=True)
    assert processed(made, 1, 1, 2) == [Send(1, 1, 2)]
    assert made.results_lost([2, 1, 77]) == []
    assert processed(made, 1, 2, 1) == [Send(1, 2, 2)]


def test_a_frame_that_was_processed_is_no_suspect() -> None:
    made = dispatcher(2, rules=RetryRules(max_attempts=2), window=1)
    feed(made, 1, 2)
    made.rank_silent(0, 0)
    assert processed(made, 1, 1, 2) == [Send(1, 1, 2)]
    processed(made, 1, 2, 1)
    made.rank_died(0, 0)  # frame 1 was in its queue
    assert made.results_lost([1, 1]) == [Send(1, 1, 3)]
    assert made.totals.failed == 0


def test_a_result_that_never_arrives_is_made_again() -> None:
    made = dispatcher(1, rules=RetryRules(retire_timeout_s=5.0))
    feed(made, 1, 2)
    processed(made, 0, 1, 1, now=10.0)
    processed(made, 0, 2, 2, now=14.0)
    assert made.tick(14.0) == []
    assert made.tick(15.0) == [Send(0, 1, 2)]


def test_an_ack_from_a_former_life_returns_no_credit_but_its_result_counts() -> None:
    made = dispatcher(1, window=1)
    feed(made, 1)
    assert join(made, 0, 1, window=1) == [Send(0, 1, 2)]
    feed(made, 2)
    assert processed(made, 0, 9, 1, generation=0) == []
    assert made.retired([1]) == [Release(1, Final.RETIRED)]
    assert made.totals.stale_acks == 1
    assert join(made, 0, 1) == []


def test_an_ack_that_is_repeated_counts_once() -> None:
    made = dispatcher(1, window=1)
    feed(made, 1, 2)
    processed(made, 0, 1, 1)
    made.results_lost([1])
    processed(made, 0, 2, 2)  # the rank gets frame 1 a second time
    assert made.gauges().in_flight_frames == 1
    assert processed(made, 0, 1, 1) == []
    assert made.gauges().in_flight_frames == 1


def test_a_silent_rank_that_comes_back_keeps_what_nobody_else_has_got() -> None:
    made = dispatcher(2, window=2)
    feed(made, 1, 2, 3, 4)
    assert made.rank_silent(0, 0) == []  # 1 and 3 wait: rank 1 is full
    assert processed(made, 1, 1, 2) == [Send(1, 1, 2)]
    assert made.rank_awake(0, 0) == []
    assert feed(made, 5) == []  # both are still in its queue
    assert processed(made, 0, 1, 1, 3) == [Send(0, 5, 1)]
    assert made.gauges().processed_frames == 2  # 2 and 3; rank 1 has frame 1


def test_a_frame_is_never_sent_to_a_rank_that_still_has_it() -> None:
    made = dispatcher(2)
    feed(made, 1, 2)
    assert made.rank_silent(0, 0) == [Send(1, 1, 2)]
    made.rank_awake(0, 0)
    assert made.rank_silent(0, 0) == []  # frame 1 is rank 1's now
    made.rank_awake(0, 0)
    assert made.rank_died(1, 0) == [Send(0, 2, 2)]  # frame 1 is in the queue of rank 0 all the time
    assert processed(made, 0, 1, 1, 2) == []
    assert made.gauges().processed_frames == 2


def test_a_rank_that_falls_silent_again_gives_back_only_what_is_its_own() -> None:
    made = dispatcher(2)
    feed(made, 1, 2)
    made.rank_silent(0, 0)
    processed(made, 1, 1, 1, 2)
    made.rank_awake(0, 0)
    assert made.rank_silent(0, 0) == []
    assert made.gauges().processed_frames == 2


def test_a_suspect_does_not_wait_for_a_rank_that_fell_silent() -> None:
    made = dispatcher(2, rules=RetryRules(max_attempts=2))
    feed(made, 1)
    assert made.rank_died(0, 0) == [Send(1, 1, 2)]
    assert sends(feed(made, 2)) == []  # rank 1 is set apart
    assert made.rank_silent(1, 0) == []
    assert join(made, 2) == [Send(2, 1, 3)]
    assert processed(made, 2, 1, 1) == [Send(2, 2, 1)]
    assert made.rank_awake(1, 0) == []
    assert {rank for rank, _ in sends(feed(made, 3, 4))} == {1, 2}


def test_a_leaving_rank_finishes_and_is_dismissed() -> None:
    made = dispatcher(2)
    feed(made, 1, 2, 3)
    assert made.rank_leaving(0, 0) == []
    assert sends(feed(made, 4)) == [(1, 4)]
    assert processed(made, 0, 1, 1) == []
    assert processed(made, 0, 2, 3) == [Dismiss(0, 0)]
    made.rank_died(1, 0, blame=False)
    assert made.rank_leaving(0, 0) == []
    assert join(made, 2) == [Send(2, 2, 2), Send(2, 4, 2)]
    assert processed(made, 2, 1, 2, 4) == []
    assert made.rank_leaving(2, 0) == [Dismiss(2, 0)]


def kill_whoever_gets(poison: int, made: Dispatcher, actions: list[Action]) -> list[Action]:
    """Ranks restart for ever; one that gets the poison frame dies before it has acked anything."""
    seen, pending = list(actions), list(actions)
    queues: dict[int, list[int]] = {}
    generations: dict[int, int] = {}
    while pending:
        for rank, key in sends(pending):
            queues.setdefault(rank, []).append(key)
        pending = []
        for rank in sorted(queues):
            keys, generation = queues.pop(rank), generations.get(rank, 0)
            if poison in keys:
                generations[rank] = generation + 1
                pending += made.rank_died(rank, generation) + join(made, rank, generation + 1)
            else:
                pending += processed(made, rank, len(seen), *keys, generation=generation) + made.retired(keys)
        seen += pending
    return seen


def test_a_poison_frame_is_failed_and_its_neighbours_are_not() -> None:
    made = dispatcher(3, window=8)
    seen = kill_whoever_gets(17, made, feed(made, *range(1, 25)))
    (failed,) = [action for action in seen if isinstance(action, FailOut | DropNewest)]
    assert isinstance(failed, FailOut)
    assert (failed.key, failed.strikes) == (17, 3)
    assert "died with it" in failed.reason
    assert made.totals.retired == 23


def test_a_poison_frame_is_found_by_a_single_rank_too() -> None:
    made = dispatcher(1, window=8)
    kill_whoever_gets(3, made, feed(made, *range(1, 30)))
    assert (made.totals.retired, made.totals.failed) == (28, 1)


def test_a_frame_that_raises_is_tried_as_often_as_stated() -> None:
    made = dispatcher(1)
    feed(made, 1)
    for serial in (1, 2):
        actions = made.ack(Ack(0, 0, serial, failed=[(1, "no peak")]), now=0.0)
        assert actions == [Send(0, 1, serial + 1)]
    assert made.ack(Ack(0, 0, 3, failed=[(1, "still none")]), now=0.0) == [FailOut(1, "still none", 3)]
    assert feed(made, 2) == [Send(0, 2, 1)]  # the rank is no longer set apart


def test_a_death_with_another_cause_is_no_strike() -> None:
    made = dispatcher()
    feed(made, 1)
    for generation in range(10):
        assert join(made, 0, generation) == [Send(0, 1, generation + 1)]
        assert made.rank_died(0, generation, blame=False) == []
    assert made.gauges().waiting_frames == 1


def test_frames_that_the_processor_drops_are_final() -> None:
    made = dispatcher(1)
    feed(made, 1)
    assert made.ack(Ack(0, 0, 1, dropped=[1]), now=0.0) == [Release(1, Final.DROPPED)]
    assert made.totals.dropped == 1


def test_a_pool_without_output_retires_on_ack() -> None:
    made = dispatcher(1, rules=RetryRules(retire_on_ack=True))
    feed(made, 1)
    assert processed(made, 0, 1, 1) == [Release(1, Final.RETIRED)]


def test_frames_wait_for_the_first_rank_within_the_bound() -> None:
    made = dispatcher(limits=ReplayLimits(max_bytes=20))
    assert feed(made, 1, 2) == []
    (lost,) = feed(made, 3)
    assert lost == DropNewest(3, "the replay buffer is full (20 of 20 bytes)")
    assert sends(join(made, 0)) == [(0, 1), (0, 2)]


def test_the_number_of_frames_is_bounded_too() -> None:
    made = dispatcher(limits=ReplayLimits(max_bytes=20, max_frames=1))
    assert feed(made, 1, 2, size=0) == [DropNewest(2, "1 frames are held already")]


def test_spilled_frames_come_back_in_order() -> None:
    made = dispatcher(limits=SPILLING)
    assert feed(made, 1, 2, 3) == [Spill(2), Spill(3)]
    assert feed(made, 4) == [DropNewest(4, "the disk is too slow (20 bytes wait to be written)")]
    assert made.spilled(2) == []
    assert made.spilled(3) == []
    assert sends(join(made, 0, window=1)) == [(0, 1)]
    assert processed(made, 0, 1, 1) == []  # held until it is retired
    assert made.retired([1]) == [Release(1, Final.RETIRED), Unspill(2)]
    assert feed(made, 5) == [Spill(5)]  # not before 2 and 3
    assert made.unspilled(2) == [Send(0, 2, 1)]


def test_no_frame_passes_one_that_is_being_read_back() -> None:
    limits = ReplayLimits(max_bytes=60, overflow=Overflow.SPILL, spill_buffer_bytes=20, disk_bytes=50)
    made = dispatcher(limits=limits)
    assert feed(made, 1, 2, 3, 4, 5) == [Spill(5)]
    made.retired([1, 2])
    assert made.spilled(5) == [Unspill(5)]
    assert feed(made, 6) == [Spill(6)]  # although there is room for it
    made.unspilled(5)
    assert sends(join(made, 0)) == [(0, 3), (0, 4), (0, 5)]


def test_a_frame_that_can_not_be_read_back_is_failed() -> None:
    made = dispatcher(limits=SPILLING)
    feed(made, 1, 2)
    made.spilled(2)
    assert made.retired([1]) == [Release(1, Final.RETIRED), Unspill(2)]
    assert made.unspill_failed(2, "checksum") == [FailOut(2, "checksum", 0)]
    assert made.gauges().held_bytes == made.gauges().spilled_bytes == 0


def test_a_full_disk_is_named_and_tried_again_later() -> None:
    made = dispatcher(limits=SPILLING)
    feed(made, 1, 2, 3)
    made.spilled(2)
    assert made.spill_failed(3, "no space left", disk_full=True) == [DropNewest(3, "no space left")]
    assert feed(made, 4) == [DropNewest(4, "the disk is full (10 of 10 bytes)")]
    made.tick(100.0)
    assert [type(each) for each in feed(made, 5)] == [DropNewest]
    made.tick(100.0 + DISK_RETRY_S)
    assert feed(made, 6) == [Spill(6)]


def test_a_frame_larger_than_every_window_is_failed_and_holds_nobody_up() -> None:
    made = dispatcher(1)
    assert feed(made, 1, size=1001) == [FailOut(1, "1001 bytes exceed every rank's window (1000 bytes)", 0)]
    assert sends(feed(made, 2)) == [(0, 2)]
    (lost,) = feed(made, 3, size=10_001)
    assert lost == DropNewest(3, "10001 bytes never fit into the replay buffer of 10000 bytes")


def test_after_the_end_nothing_is_taken_and_the_rest_can_be_given_up() -> None:
    made = dispatcher(1, window=1)
    feed(made, 1, 2)
    made.drain()
    assert isinstance(feed(made, 3)[0], DropNewest)
    assert not made.is_drained
    assert made.abandon("deadline") == [FailOut(1, "deadline", 0), FailOut(2, "deadline", 0)]
    assert made.is_drained


def test_the_gauge_says_how_long_the_buffer_will_last() -> None:
    made = dispatcher(limits=ReplayLimits(max_bytes=100_000), ranks=1, window=1)
    made.tick(0.0)
    assert math.isinf(made.gauges().seconds_left)
    for second in range(1, 51):
        feed(made, second, size=1000)
        made.tick(float(second))
    gauges = made.gauges()
    assert gauges.input_bytes_per_s == pytest.approx(1000, rel=0.01)
    assert gauges.seconds_left == pytest.approx(50, rel=0.02)
    processed(made, 0, 1, 1)
    made.retired(range(1, 51))
    for second in range(51, 60):
        made.tick(float(second))
    assert math.isinf(made.gauges().seconds_left)
    assert made.gauges().held_frames == 0


@pytest.mark.parametrize(
    "refused",
    [
        lambda: RetryRules(max_attempts=1),
        lambda: ReplayLimits(max_bytes=0),
        lambda: ReplayLimits(max_bytes=10, overflow=Overflow.SPILL, spill_buffer_bytes=10),
        lambda: dispatcher().rank_joined(0, 0, window_frames=0, window_bytes=10),
    ],
)
def test_settings_with_which_nothing_could_work_are_refused(refused: object) -> None:
    with pytest.raises(ValueError, match=r"\d"):
        refused()  # type: ignore[operator]


def test_a_dispatcher_that_goes_on_sends_what_lies_on_disk_first_and_takes_nothing_twice() -> None:
    limits = ReplayLimits(max_bytes=400, overflow=Overflow.SPILL, disk_bytes=1000, spill_buffer_bytes=100)
    one = Dispatcher(limits, RetryRules())
    one.rank_joined(0, 0, window_frames=8, window_bytes=800)
    assert one.resume(after=9, spilled=[(5, 100), (6, 100)]) == [Unspill(5), Unspill(6)]
    assert one.frame(9, 100) == [], "the one before had it"
    assert one.frame(10, 100) == [Spill(10)], "behind what lies on disk"
    assert one.unspilled(5) == [Send(0, 5, 1)]
    assert one.unspilled(6) == [Send(0, 6, 1)]
    assert one.spilled(10) == [Unspill(10)]
    assert one.unspilled(10) == [Send(0, 10, 1)]
    assert one.held == 3
