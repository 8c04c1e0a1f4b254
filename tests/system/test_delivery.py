"""At-least-once delivery on real Parsl pools: the fast scenarios of the chaos suite. `make chaos` plays all of them."""

from pathlib import Path

import pytest

from chaos.scenario import Scenario, play
from chaos.scenarios import FAST, RESUMED

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.mark.parametrize("scenario", FAST, ids=[scenario.name.replace(" ", "-") for scenario in FAST])
def test_nothing_is_lost_and_nothing_comes_twice(scenario: Scenario, tmp_path: Path) -> None:
    row = play(scenario, folder=tmp_path)
    assert row.problems == (), f"{row.verdict}\n{row}"
    assert row.sent_again > 0, "nobody was hurt"


@pytest.mark.slow
def test_a_run_whose_controller_was_killed_is_resumed(tmp_path: Path) -> None:
    row = play(RESUMED, folder=tmp_path)
    assert row.problems == (), f"{row.verdict}\n{row}"
