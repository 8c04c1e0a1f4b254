"""The books of a run: what the next controller knows of the frames."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.core.errors import DataError, UsageError
from beamcast.core.ledger import Ledger, PoolShape
from beamcast.launch.rundir.books import BOOKS_FILE, VERSION, Books, BooksFile, read_books

POOLS = (
    PoolShape("work", "consumer", "source", ((0, 1), (2, 3))),
    PoolShape("collect", "collector", "work", ((0,),), gather=True),
)
KEYS = st.sets(st.integers(0, 40))


def _ledger() -> Ledger:
    return Ledger(POOLS, "collect", watch_results=True)


@given(st.data())
def test_a_ledger_that_takes_up_another_answers_alike(data: st.DataObject) -> None:
    before = _ledger()
    before.source(data.draw(KEYS))
    if data.draw(st.booleans()):
        before.mirrored(data.draw(KEYS))
    for rank in range(4):
        for report in (before.received, before.processed, before.dropped, before.failed):
            report("work", rank, data.draw(KEYS))
        before.arrived("collect", ("work", rank), data.draw(KEYS))
    before.delivered(data.draw(KEYS))
    before.count_from(data.draw(st.integers(0, 10)))

    after = _ledger()
    after.take_up(before.state())
    assert after.totals() == before.totals()
    assert after.missing() == before.missing()
    assert after.outstanding() == before.outstanding()
    assert after.final_results() == before.final_results()
    assert after.last_key == before.last_key


def test_books_come_back_from_disk(tmp_path: Path) -> None:
    ledger = _ledger()
    ledger.source(range(5))
    ledger.failed("work", 3, [2])
    books = Books(version=VERSION, run="r", base="/somewhere", resumed=2, ledger=ledger.state())
    BooksFile(tmp_path, ranks=4).write(books, now=1.0)
    assert read_books(tmp_path) == books
    assert [path.name for path in tmp_path.iterdir()] == [BOOKS_FILE]


def test_books_are_due_when_something_has_changed(tmp_path: Path) -> None:
    file = BooksFile(tmp_path, ranks=4)
    assert file.due(10.0, changed_at=9.0)
    file.write(Books(version=VERSION, run="r", base="/"), now=10.0)
    assert not file.due(20.0, changed_at=9.5)
    assert not file.due(10.5, changed_at=10.2)
    assert file.due(11.0, changed_at=10.2)


def test_books_of_other_pools_are_refused() -> None:
    other = Ledger((PoolShape("else", "consumer", "source", ((0,),)),), None)
    with pytest.raises(ValueError, match="else"):
        _ledger().take_up(other.state())


def test_no_books_and_damaged_ones_say_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be resumed"):
        read_books(tmp_path)
    (tmp_path / BOOKS_FILE).write_bytes(b"something else")
    with pytest.raises(DataError, match="can't be read"):
        read_books(tmp_path)
    BooksFile(tmp_path, ranks=1).write(Books(version=VERSION + 1, run="r", base="/"), now=1.0)
    with pytest.raises(DataError, match="version"):
        read_books(tmp_path)


def test_books_that_the_disk_refuses_wait_for_their_next_turn(tmp_path: Path) -> None:
    file = BooksFile(tmp_path / "gone", ranks=1)
    with pytest.raises(FileNotFoundError):
        file.write(Books(version=VERSION, run="r", base="/"), now=10.0)
    assert not file.due(10.5, changed_at=9.0), "not twenty times a second"
    assert file.due(11.5, changed_at=9.0)
