from pathlib import Path

import pytest

from beamcast.config.check import check_workflow
from beamcast.config.load import load_site, load_workflow
from beamcast.config.sites import shipped_sites
from beamcast.config.units import Hertz, Seconds
from beamcast.core.errors import ConfigError

TOP = Path(__file__).parents[3]
WORKFLOW = """\
name = "demo"

[source]
channel = "det:image"
simulate = {rate = "2 kHz", shape = [128, 64]}

[[pools]]
name = "stats"
role = "consumer"
input = "source"
params = {threshold = 0.5, when = 2026-01-02, mask = [[1, 2]]}
"""


@pytest.fixture
def workflow_file(tmp_path: Path) -> Path:
    path = tmp_path / 'a folder\'s "name"' / "workflow.toml"
    path.parent.mkdir()
    path.write_text(WORKFLOW)
    return path


def test_workflow(workflow_file: Path) -> None:
    loaded = load_workflow(workflow_file)
    assert loaded.path == workflow_file
    assert loaded.base == workflow_file.parent
    simulation = loaded.workflow.source.simulate
    assert simulation is not None
    assert (simulation.rate, simulation.shape) == (Hertz(2000.0), (128, 64))
    assert type(loaded.workflow.deadlines.drain) is Seconds
    assert loaded.workflow.pools[0].params["threshold"] == 0.5


def test_base_is_absolute(workflow_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workflow_file.parent)
    loaded = load_workflow("workflow.toml")
    assert (loaded.path, loaded.base) == (Path("workflow.toml"), workflow_file.parent)


def test_overrides(workflow_file: Path) -> None:
    loaded = load_workflow(workflow_file, overrides=["pools.stats.ranks=4", "deadlines.drain=1 min"])
    assert loaded.workflow.pools[0].ranks == 4
    assert loaded.workflow.deadlines.drain == 60.0


def test_a_wrong_override_is_named_and_not_the_file(workflow_file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_workflow(workflow_file, overrides=["pools.stats.ranks=many", "pools.stats.rnaks=1", "name=X"])
    assert [problem.where for problem in caught.value.problems] == [
        "--set name=X: name",
        "--set pools.stats.ranks=many: pools[0].ranks",
        "--set pools.stats.rnaks=1: pools[0].rnaks",
    ]


@pytest.mark.parametrize("name", sorted(shipped_sites()))
def test_shipped_sites_load_and_bear_their_file_name(name: str) -> None:
    assert load_site(name).name == name


def test_the_sites_of_the_checkout_are_the_shipped_ones() -> None:
    assert set(shipped_sites()) == {path.stem for path in (TOP / "site-configs").glob("*.toml")}
    assert {"local", "local-mpi"} <= set(shipped_sites())


def test_examples_load_and_keep_the_rules() -> None:
    loaded = [load_workflow(path) for path in sorted((TOP / "examples").glob("**/workflow.toml"))]
    for example in loaded:
        check_workflow(example)
    assert [example.path for example in loaded if not example.workflow.description] == []
