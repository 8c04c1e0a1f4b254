"""Which runs can be resumed, and what is kept of them."""

from pathlib import Path

import pytest

from beamcast.cli.resume import resumed_plan
from beamcast.cli.run import make_plan
from beamcast.core.errors import UsageError
from beamcast.launch.accounts import Accounts
from beamcast.launch.rundir.books import BooksFile
from beamcast.launch.rundir.rundir import RunDir
from beamcast.members.join import SECRET_FILE

WORKFLOW = """
name = "w"
delivery = "at-least-once"
[source]
{source}
[[pools]]
name = "work"
role = "consumer"
input = "source"
processor = "processor.py:Mine"
"""


def _cut_short(folder: Path, source: str) -> Path:
    """The directory of a run whose controller has not written a report."""
    home = folder / "home"
    home.mkdir()
    (home / "processor.py").write_text("class Mine:\n    def process(self, frame): ...\n")
    (home / "workflow.toml").write_text(WORKFLOW.format(source=source))
    plan = make_plan(home / "workflow.toml", site="local", name="r", settings=None, site_settings=None)
    run_dir = RunDir(folder / "run")
    run_dir.path.mkdir()
    run_dir.create(plan)
    BooksFile(run_dir.path, ranks=1).write(Accounts.open(plan, run_dir.path).books(), now=1.0)
    return run_dir.path


def test_a_resumed_run_has_the_plan_of_the_one_before(tmp_path: Path) -> None:
    plan = resumed_plan(_cut_short(tmp_path, 'channel = "det:image"'))
    assert plan.run == "r"
    assert plan.base == tmp_path / "home"
    assert plan.workflow.source.channel == "det:image"


def test_a_simulated_detector_has_died_with_its_run(tmp_path: Path) -> None:
    folder = _cut_short(tmp_path, 'channel = "det:image"\nsimulate = { shape = [8, 8] }')
    with pytest.raises(UsageError, match="simulated"):
        resumed_plan(folder)


def test_a_run_without_books_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no books"):
        resumed_plan(tmp_path)


def test_what_a_run_needs_is_kept_and_the_rest_goes(tmp_path: Path) -> None:
    run_dir = RunDir(_cut_short(tmp_path, 'channel = "det:image"'))
    (run_dir.path / "spill" / "work").mkdir(parents=True)
    (run_dir.path / "spill" / "work" / "7.spilled").touch()
    (run_dir.path / "state").mkdir()
    (run_dir.path / "join.json").touch()
    (run_dir.logs / "mirror.log").touch()
    before = (run_dir.path / SECRET_FILE).read_bytes()
    for _ in range(2):
        run_dir.reopen()
    names = {path.name for path in run_dir.path.iterdir()}
    assert {"spill", "state", "books", "workflow.toml", "site.toml", "logs", "logs-1", "logs-2"} <= names
    assert "join.json" not in names
    assert (run_dir.path / "logs-1" / "mirror.log").exists()
    assert (run_dir.path / SECRET_FILE).read_bytes() != before
