"""Folders of runs: an earlier one is never overwritten unless somebody says so."""

import threading
from pathlib import Path

import msgspec
import pytest

from beamcast.core.errors import UsageError, WorldError
from beamcast.launch.rundir.books import BOOKS_FILE
from beamcast.launch.rundir.lease import LEASE_FILE, RunLease
from beamcast.launch.rundir.naming import check_unused, claim
from beamcast.launch.rundir.ownership import Lease
from beamcast.launch.rundir.rundir import REPORT_FILE


def test_a_name_that_is_used_gets_a_number(tmp_path: Path) -> None:
    """P8."""
    root = tmp_path / "runs"
    given = [claim(root, "scan") for _ in range(3)]
    assert [name for name, _ in given] == ["scan", "scan-2", "scan-3"]
    assert [path for _, path in given] == [root / "scan", root / "scan-2", root / "scan-3"]
    (root / "notes.txt").write_text("a file is no folder for a run")
    assert claim(root, "notes.txt")[0] == "notes.txt-2"


def test_those_that_ask_together_get_a_folder_each(tmp_path: Path) -> None:
    names: list[str] = []
    threads = [threading.Thread(target=lambda: names.append(claim(tmp_path, "scan")[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 8


def test_a_root_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorldError, match="a run directory can't be made here"):
        claim(tmp_path / "file", "scan")


def test_a_folder_that_was_chosen_must_not_hold_an_earlier_run(tmp_path: Path) -> None:
    check_unused(tmp_path / "new")
    tmp_path.joinpath("precious.txt").write_text("")
    check_unused(tmp_path)  # that this is no run directory is told by whoever wants to own it
    (tmp_path / REPORT_FILE).write_text("{}")
    with pytest.raises(UsageError, match=r"an earlier run is in .* --replace removes it"):
        check_unused(tmp_path)


def test_the_folder_of_a_run_that_goes_on_is_left_to_its_lease(tmp_path: Path) -> None:
    with RunLease(tmp_path, run="r"):
        check_unused(tmp_path)
    with pytest.raises(UsageError, match="an earlier run is in"):
        check_unused(tmp_path)


def test_a_run_that_can_be_resumed_says_so(tmp_path: Path) -> None:
    dead = Lease(run="r", host="elsewhere", boot="b", pid=1, started=0.0, epoch=1, token="t", released=True)
    (tmp_path / LEASE_FILE).write_bytes(msgspec.json.encode(dead))
    (tmp_path / BOOKS_FILE).write_bytes(b"")
    with pytest.raises(UsageError, match="beamcast resume"):
        check_unused(tmp_path)
