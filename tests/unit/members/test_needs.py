"""What a host must have: what is worked around, and the words for the rest."""

import os
import resource
import tempfile
from pathlib import Path

import pytest

from beamcast.core.errors import UsageError, WorldError
from beamcast.members.host import needs


def test_a_tmpdir_that_is_too_long_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 80)))
    (tmp_path / ("x" * 80)).mkdir()
    folder = Path(needs.make_short_folder("bc-"))
    folder.rmdir()
    assert str(folder.parent) in needs._SHORT_FOLDERS
    assert list((tmp_path / ("x" * 80)).iterdir()) == []
    monkeypatch.setattr(needs, "_SHORT_FOLDERS", (str(tmp_path / ("x" * 80)),))
    with pytest.raises(
        WorldError, match=r"no temporary folder can be made whose path has at most [0-9]+ characters"
    ):
        needs.make_short_folder("bc-")


def test_a_short_tmpdir_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tempfile.mkdtemp(dir="/tmp")
    monkeypatch.setattr(tempfile, "tempdir", folder)
    made = Path(needs.make_short_folder("bc-"))
    assert made.parent == Path(folder)
    made.rmdir()
    os.rmdir(folder)  # noqa: PTH106


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [((40, 2000), 1024), ((40, 500), 500), ((4096, 4096), 4096), ((40, resource.RLIM_INFINITY), 1024)],
)
def test_open_files_are_raised_as_far_as_is_usual(
    limits: tuple[int, int], allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    assert needs.raise_open_files(needs.files_needed(16)) == allowed


def test_too_few_open_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    with pytest.raises(UsageError, match=r"may open 1024 files here, and the run needs 4192.*ulimit -n 4192"):
        needs.raise_open_files(needs.files_needed(4096))


def test_the_lowest_limit_of_the_groups_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    groups = [tmp_path / kind / path.lstrip("/") for _, kind, path in own if kind in ("", "pids")]
    for group in groups:
        group.mkdir(parents=True, exist_ok=True)
        (group / "pids.max").write_text("max\n")
    monkeypatch.setattr(needs, "CGROUPS", tmp_path)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert needs.tasks_allowed() == (None, "")
    (groups[0] / "pids.max").write_text("128\n")
    assert needs.tasks_allowed() == (128, f"{groups[0]}/pids.max")
