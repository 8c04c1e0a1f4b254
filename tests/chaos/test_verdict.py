"""The suite's own judgement: a verdict that can't fail would prove nothing."""

from pathlib import Path

from beamcast.sim.payload import PayloadMaker
from chaos.load import Load
from chaos.scenario import Outcome, Scenario, judged
from chaos.table import table
from chaos.verdict import (
    Arrival,
    lost_and_duplicated,
    read_arrivals,
    remade_after_s,
    results_of,
    whole_after_s,
)

LOAD = Load(seconds=1.0, rate_hz=4.0, size=64)
MAKER = PayloadMaker((64, 64), "uint8", 0)


def arrival(
    frame_id: int, *, taken_at: float = 0.0, made_at: float | None = None, came_at: float | None = None
) -> Arrival:
    made_at = taken_at if made_at is None else made_at
    total = float(MAKER.borrow(frame_id).sum())
    return Arrival(frame_id, total, taken_at, made_at, 7, made_at if came_at is None else came_at)


def problems(ids: list[int], *, status: int = 0) -> tuple[str, ...]:
    scenario = Scenario(name="s", load=LOAD, blow=lambda trial: None)
    report = {"reason": "why", "frames": {"sent_again": 0}, "missing": [], "failed_frames": [], "pools": []}
    results = [arrival(frame_id) for frame_id in ids]
    outcome = Outcome(Path(), report, status, [1, 2, 3, 4], results, None)
    return judged(scenario, outcome).problems


def test_lost_and_twice_are_told_from_ids_alone() -> None:
    assert lost_and_duplicated([1, 2, 3], [arrival(each) for each in (1, 3, 3)]) == ([2], [3])
    assert lost_and_duplicated([1, 2, 1, 2], [arrival(each) for each in (1, 2, 2)]) == ([1], [])


def test_every_kind_of_wrong_is_a_problem() -> None:
    assert problems([1, 2, 3, 4]) == ()
    assert problems([1, 2, 4]) == ("lost 1 (3)",)
    assert problems([1, 2, 3, 4, 4]) == ("twice 1 (4)",)
    assert problems([1, 2, 3, 4], status=3) == ("exit status 3: why",)


def test_a_result_of_another_frame_is_wrong() -> None:
    scenario = Scenario(name="s", load=LOAD, blow=lambda trial: None)
    report = {"reason": "", "frames": {"sent_again": 0}, "missing": [], "failed_frames": [], "pools": []}
    mixed_up = Arrival(2, arrival(1).total, 0.0, 0.0, 7, 0.0)
    row = judged(scenario, Outcome(Path(), report, 0, [1, 2], [arrival(1), mixed_up], None))
    assert row.problems == ("wrong 1 (2)",)
    assert "wrong 1 (2)" in list(table([row]))[1]


def test_the_stream_is_whole_with_the_last_late_result() -> None:
    results = [arrival(1, taken_at=10.0), arrival(2, taken_at=10.5, came_at=13.0), arrival(3, taken_at=14.0)]
    assert whole_after_s(results, 11.0) == 2.0
    assert whole_after_s(results[:1], 11.0) == 0.0
    tail = arrival(4, taken_at=20.0, came_at=22.0)
    assert whole_after_s([*results, tail], 11.0) == 2.0, (
        "the last results of all are no consequence of the blow"
    )


def test_a_result_is_made_again_when_it_is_made_late() -> None:
    results = [arrival(1, taken_at=10.0), arrival(2, taken_at=10.0, made_at=12.0, came_at=12.5)]
    assert remade_after_s(results, 11.0) == 1.5
    assert remade_after_s(results[:1], 11.0) is None


def test_half_a_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "arrivals.txt"
    path.write_text("0 0.0 1.0 0.0 0 2.0\n5 3.0 1.0 1.5 9 2.0\n6 3.")
    assert [each.frame_id for each in read_arrivals(path)] == [0, 5]
    assert [each.frame_id for each in results_of(read_arrivals(path))] == [5]
