"""What the operating system refuses is told in a sentence (P9)."""

import errno
import os

import pytest

from beamcast.core.refusals import refusal

REFUSALS = (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EAGAIN, errno.ESTALE)


@pytest.mark.parametrize("number", REFUSALS)
def test_a_refusal_names_the_path_and_what_to_do(number: int) -> None:
    worded = refusal(OSError(number, os.strerror(number), "/data/runs/one"))
    assert worded is not None
    assert str(worded).startswith("/data/runs/one: ")
    assert worded.hint
    assert "Errno" not in str(worded)


def test_what_was_being_done_is_said() -> None:
    worded = refusal(PermissionError(errno.EACCES, "", "/data"), doing="the run directory can't be made")
    assert str(worded).startswith("/data: the run directory can't be made: permission denied. ")


def test_two_of_pythons_own_errors_are_refusals_too() -> None:
    assert "threads" in str(refusal(RuntimeError("can't start new thread")))
    assert "Set HOME" in str(refusal(RuntimeError("Could not determine home directory.")))
    assert "memory" in str(refusal(MemoryError()))


@pytest.mark.parametrize(
    "error", [ValueError("x"), RuntimeError("dictionary changed"), OSError(errno.EBADF, "bad"), OSError("?")]
)
def test_what_is_no_refusal_stays_a_fault(error: Exception) -> None:
    assert refusal(error) is None


def test_a_full_disk_that_does_not_say_where_is_told_with_the_folder() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    assert str(refusal(full, place="/data/run")).startswith("/data/run: the disk is full. Make room. ")
    assert str(refusal(OSError(errno.EMFILE, ""), place="/data/run")).startswith("this process may not open")
