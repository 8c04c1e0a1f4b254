"""`beamcast examples`: copies, all or none (P11)."""

from pathlib import Path

import pytest

from beamcast.cli.examples import copy, examples, examples_folder
from beamcast.core.errors import UsageError, WorldError


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    folder = tmp_path / "shipped"
    (folder / "one" / "__pycache__").mkdir(parents=True)
    (folder / "README.md").write_text("all")
    (folder / "one" / "workflow.toml").write_text('name = "one"\ndescription = "The first"\n')
    (folder / "one" / "__pycache__" / "p.pyc").write_text("")
    return folder


def test_a_checkout_has_its_own_and_a_package_those_inside(tmp_path: Path) -> None:
    package = tmp_path / "src" / "beamcast"
    package.mkdir(parents=True)
    assert examples_folder(package) == tmp_path / "examples"
    (package / "examples").mkdir()
    assert examples_folder(package) == package / "examples"


def test_copies_are_whole_and_writable_and_hold_nothing_compiled(shipped: Path, tmp_path: Path) -> None:
    (shipped / "README.md").chmod(0o444)
    target = tmp_path / "a b" / "mine"
    copy(shipped, target)
    files = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    assert files == ["README.md", "one/workflow.toml"]
    assert (target / "README.md").stat().st_mode & 0o200


def test_an_existing_file_is_kept_and_then_nothing_is_copied(shipped: Path, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    (target / "one").mkdir(parents=True)
    (target / "one" / "workflow.toml").write_text("my own work")
    with pytest.raises(UsageError, match=r"one/workflow\.toml is there already: nothing is copied"):
        copy(shipped, target)
    assert (target / "one" / "workflow.toml").read_text() == "my own work"
    assert not (target / "README.md").exists()


def test_other_files_in_the_folder_do_no_harm(shipped: Path, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    copy(shipped, target)
    assert (target / "notes.txt").read_text() == "mine"


def test_a_place_that_can_not_be_written_is_named(shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorldError, match=r"can't write .*file.*Not a directory"):
        copy(shipped, tmp_path / "file" / "mine")


def test_every_example_is_listed_with_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    examples()
    lines = capsys.readouterr().out.splitlines()
    listed = dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("`"))
    folder = examples_folder(Path(__file__).parents[3] / "src" / "beamcast")
    assert set(listed) == {path.name for path in folder.iterdir() if path.is_dir()}
    assert max(map(len, lines)) <= 80
