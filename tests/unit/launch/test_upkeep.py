"""What the disk refuses in mid-run costs only what would have been written (S7)."""

import errno
import logging
from pathlib import Path
from typing import NoReturn

import pytest

from beamcast.launch.rundir.upkeep import Upkeep


def full() -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_trouble_is_told_on_the_screen_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    upkeep = Upkeep(Path("/data/run"))
    for _ in range(5):
        assert upkeep("the books", full) is None
        assert upkeep("the state file", full) is None
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "the books of the run can't be written in /data/run: the disk is full" in caplog.messages[0]


def test_what_works_is_done_and_answered() -> None:
    assert Upkeep(Path("/data/run"))("the books", lambda: 3) == 3


def test_a_fault_is_not_taken_for_a_full_disk() -> None:
    with pytest.raises(ValueError, match="wrong"):
        Upkeep(Path("/data/run"))("the books", lambda: int("wrong"))
