"""A processor's file as a module: under which name, and what its folder on `sys.path` may replace."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from beamcast.pools.user_file import load_user_file, module_name


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield
    for name in sys.modules.keys() - known:
        del sys.modules[name]


def write(path: Path, text: str = "HERE = __file__") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_module_has_the_name_of_its_file_and_finds_what_lies_beside_it(tmp_path: Path) -> None:
    """C15: so a process that is started by spawn finds it too."""
    write(tmp_path / "beside_it.py", "import bright_spots\nSAME = bright_spots")
    module = load_user_file(write(tmp_path / "bright_spots.py", "class Peaks: pass"))
    assert module.__name__ == module.Peaks.__module__ == "bright_spots"
    assert __import__("beside_it").SAME is module
    words = [sys.executable, "-c", "import pickle, sys; sys.path = eval(sys.argv[1]); import bright_spots"]
    assert subprocess.run([*words, repr(sys.path)], check=False).returncode == 0


@pytest.mark.parametrize(
    "name", ["queue.py", "xmlrpc.py", "sys.py", "numpy.py", "my-own.py", "class.py", "4d.py"]
)
def test_a_name_that_is_taken_or_none_gets_another(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name)
    module = load_user_file(path)
    assert str(path) == module.HERE
    assert module.__name__.startswith("beamcast_user_")
    assert load_user_file(path) is module


def test_two_files_of_one_name_do_not_mix(tmp_path: Path) -> None:
    first, second = (load_user_file(write(tmp_path / one / "twice.py")) for one in "ab")
    assert first.HERE != second.HERE
    assert first.__name__ == "twice"
    assert module_name(tmp_path / "b" / "twice.py") == second.__name__


def test_files_beside_a_processor_replace_nothing_of_python(tmp_path: Path) -> None:
    """C3: but they come before installed packages."""
    for name in ("colorsys.py", "typer.py"):
        write(tmp_path / name)
    words = (
        "import sys, pathlib\nfrom beamcast.pools.user_file import load_user_file\n"
        "load_user_file(pathlib.Path(sys.argv[1]))\nimport colorsys, typer\nprint(colorsys.__file__, typer.HERE)"
    )
    path = write(tmp_path / "some_processor.py")
    done = subprocess.run(
        [sys.executable, "-P", "-c", words, str(path)], capture_output=True, text=True, check=True
    )
    assert str(tmp_path / "colorsys.py") not in done.stdout
    assert str(tmp_path / "typer.py") in done.stdout


def test_a_file_that_can_not_be_imported_leaves_no_half_of_it(tmp_path: Path) -> None:
    path = write(tmp_path / "half_done.py", "A = 1\nraise RuntimeError('no')")
    with pytest.raises(RuntimeError):
        load_user_file(path)
    assert "half_done" not in sys.modules
    path.write_text("A = 2")
    assert load_user_file(path).A == 2
