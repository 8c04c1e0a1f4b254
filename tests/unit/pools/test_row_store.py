"""What a rank keeps of the joined metadata."""

from beamcast.core.ids import FrameKey
from beamcast.core.joining import Row
from beamcast.pools.metadata import RowStore
from beamcast.pva.metadata import Rows, pack_batch


def batch(first: int, last: int, *, again: bool = False) -> Rows:
    rows = []
    for key in range(first, last + 1):
        row = Row(FrameKey(key), None, seen_at=0.0, columns=1)
        row.values[0] = float(key)
        rows.append(row)
    return Rows(pack_batch(rows, serial=1, again=again))


def value(store: RowStore, key: int) -> float | None:
    found = store.find(FrameKey(key))
    return None if found is None else found[0].columns[0].value(found[1])


def test_rows_are_found_in_any_order_and_as_often_as_asked() -> None:
    store = RowStore(100)
    for first in (1, 11, 21):
        store.add(batch(first, first + 9))
    assert [value(store, key) for key in (25, 1, 11, 25, 30)] == [25.0, 1.0, 11.0, 25.0, 30.0]
    assert value(store, 31) is None


def test_a_row_between_two_that_are_here_does_not_come_any_more() -> None:
    store = RowStore(100)
    assert not store.passed(FrameKey(5))
    store.add(batch(10, 14))
    store.add(batch(17, 20))
    assert [key for key in range(8, 23) if store.passed(FrameKey(key))] == list(range(10, 21))
    assert value(store, 15) is None


def test_the_oldest_batches_go_when_there_are_too_many_rows() -> None:
    store = RowStore(25)
    for first in (1, 11, 21, 31):
        store.add(batch(first, first + 9))
    assert [value(store, key) for key in (1, 20, 21, 40)] == [None, None, 21.0, 40.0]
    assert not store.passed(FrameKey(15))


def test_a_new_rank_gets_the_rows_from_before_its_time_and_the_others_are_not_disturbed() -> None:
    new, old = RowStore(1000), RowStore(1000)
    for store, first in ((new, 31), (old, 1)):
        for start in range(first, 51, 10):
            store.add(batch(start, start + 9))
        store.add(batch(1, 45, again=True))
        store.add(batch(51, 60))
        assert [value(store, key) for key in (1, 30, 31, 46, 60)] == [1.0, 30.0, 31.0, 46.0, 60.0]
