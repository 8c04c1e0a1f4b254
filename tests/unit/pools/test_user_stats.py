from typing import Any

import numpy as np
import pvaccess
import pytest

from beamcast.pools.native import NativeProcessor
from beamcast.pools.user_stats import UserStats


class Counting:
    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def process(self, frame: Any) -> None:
        """Nothing to do."""

    def stats(self) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def test_statistics_become_a_part_of_the_status_with_types_from_their_first_values() -> None:
    answers = (
        {"n": 1, "rate": 0.5, "file": "a"},
        {"n": np.int32(2), "rate": np.float32(1.5), "file": "b", "new": 3},
    )
    stats = UserStats(NativeProcessor(Counting(*answers), spec="c"))
    status = pvaccess.PvObject(stats.structure)
    status.set(stats.read())
    assert status["userStats"] == {"n": 2, "rate": 1.5, "file": "b"}


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1)])
def test_statistics_that_raise_cost_themselves_and_are_said_once(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    stats = UserStats(NativeProcessor(Counting({"n": 1}, error, error, {"n": 5}), spec="c"))
    assert [stats.read(), stats.read(), stats.read()] == [
        {"userStats": {}},
        {"userStats": {}},
        {"userStats": {"n": 5}},
    ]
    assert len(caplog.records) == 1


def test_a_processor_without_statistics_adds_nothing() -> None:
    stats = UserStats(NativeProcessor(Counting({}), spec="c"))
    assert stats.structure == {}
    assert stats.read() == {}
