"""What is promised of delivery, on real Parsl pools: the fast scenarios of the chaos suite. `make chaos` plays all."""

from pathlib import Path

import pytest

from chaos.scenario import Scenario, play
from chaos.scenarios import FAST, MIRROR_ONCE, RESUMED, SCALED_ONCE

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.mark.parametrize("scenario", FAST, ids=[scenario.name.replace(" ", "-") for scenario in FAST])
def test_nothing_is_lost_and_nothing_comes_twice(scenario: Scenario, tmp_path: Path) -> None:
    row = play(scenario, folder=tmp_path)
    assert row.problems == (), f"{row.verdict}\n{row}"
    assert row.sent_again > 0, "nobody was hurt"


def test_at_most_once_a_run_goes_on_when_its_mirror_is_killed(tmp_path: Path) -> None:
    row = play(MIRROR_ONCE, folder=tmp_path)
    assert row.problems == (), f"{row.verdict}\n{row}"


def test_at_most_once_a_pool_changes_its_size(tmp_path: Path) -> None:
    row = play(SCALED_ONCE, folder=tmp_path)
    assert row.problems == (), f"{row.verdict}\n{row}"


@pytest.mark.slow
def test_a_run_whose_controller_was_killed_is_resumed(tmp_path: Path) -> None:
    row = play(RESUMED, folder=tmp_path)
    assert row.problems == (), f"{row.verdict}\n{row}"
