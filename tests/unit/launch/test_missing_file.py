"""All missing ids, in a file that can be read."""

from pathlib import Path

from beamcast.core.ids import first_ranges, parse_ranges
from beamcast.core.ledger import Ledger, PoolShape
from beamcast.launch.accounts import MAX_MISSING_RANGES
from beamcast.launch.rundir.missing_file import HEAD, write_missing


def test_a_run_that_misses_nothing_leaves_no_file(tmp_path: Path) -> None:
    ledger = Ledger([PoolShape("work", role="consumer", input="source", sets=((0,),))], "work")
    ledger.source([1, 2])
    ledger.processed("work", 0, [1, 2])
    assert write_missing(tmp_path, ledger) == ""
    assert list(tmp_path.iterdir()) == []


def test_every_id_that_is_missing_is_in_the_file(tmp_path: Path) -> None:
    """I9, I7: more ranges than a report has."""
    ledger = Ledger([PoolShape("work", role="consumer", input="source", sets=((0,),))], "work")
    known = [*range(0, 8 * MAX_MISSING_RANGES, 2), 2**40]
    ledger.source(known)
    ledger.mirrored(known)
    ledger.processed("work", 0, known[::2])
    name = write_missing(tmp_path, ledger)
    head, lost, not_sent = (tmp_path / name).read_text(encoding="utf-8").splitlines()
    assert head == HEAD
    what, pool, _, count, ids = lost.split("\t")
    assert (what, pool, int(count)) == ("lost at mirror→work", "work", len(known[1::2]))
    assert list(parse_ranges(ids)) == known[1::2]
    what, _, _, count, ids = not_sent.split("\t")
    assert what == "not sent"
    assert int(count) == ledger.totals().skipped
    assert ids.startswith("1,3,5,")
    assert ids.endswith(f"-{2**40 - 1}")


def test_the_ranges_of_a_report_can_be_read_though_they_are_not_all() -> None:
    keys = range(0, 20, 2)
    text, more = first_ranges(keys, 3)
    assert list(parse_ranges(text)) == [0, 2, 4]
    assert more == 7
    assert first_ranges(keys, None) == (",".join(map(str, keys)), 0)
