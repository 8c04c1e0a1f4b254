"""The journal of keys: what a killed member leaves to its successor."""

import os
import signal
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from beamcast.members.journal import FOLDER, KeyJournal


def test_a_successor_reads_what_was_noted(tmp_path: Path) -> None:
    with KeyJournal(tmp_path, "mirror") as first:
        assert first.keys() == []
        assert first.mark == 0
        for key in (1, 2, 5 << 48):
            first.note(key)
        first.mark = 3
    with KeyJournal(tmp_path, "mirror") as second:
        assert second.keys() == [1, 2, 5 << 48]
        assert second.mark == 3
        second.note(7)
        assert second.keys()[-1] == 7


def test_members_have_journals_of_their_own(tmp_path: Path) -> None:
    with KeyJournal(tmp_path, "mirror") as one, KeyJournal(tmp_path, "results") as other:
        one.note(1)
        assert other.keys() == []


@given(st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=12), max_size=8), st.integers(1, 8))
def test_the_last_keys_stay(gulps: list[list[int]], capacity: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        with KeyJournal(Path(folder), "m", capacity=capacity) as journal:
            for gulp in gulps:
                journal.note(*gulp)
        with KeyJournal(Path(folder), "m", capacity=capacity) as again:
            assert again.keys() == [key for gulp in gulps for key in gulp][-capacity:]


def test_a_kill_loses_nothing_that_was_noted(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        journal = KeyJournal(tmp_path, "m")
        for key in range(1000):
            journal.note(key)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    with KeyJournal(tmp_path, "m") as again:
        assert again.keys() == list(range(1000))


def test_what_is_no_journal_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "m.keys").write_bytes(b"something else")
    with KeyJournal(tmp_path, "m") as journal:
        assert journal.keys() == []


def test_room_on_disk_is_taken_beforehand(tmp_path: Path) -> None:
    """A store into a mapped page for which a full disk has no room would kill the process (S7)."""
    with KeyJournal(tmp_path, "mirror", capacity=4096):
        (path,) = (tmp_path / FOLDER).iterdir()
        assert path.stat().st_blocks * 512 >= path.stat().st_size >= 4096 * 8


def test_a_journal_that_the_disk_refuses_is_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file where the folder should be")
    with KeyJournal(tmp_path, "mirror") as journal:
        journal.note(1, 2)
        assert journal.keys() == [1, 2]
