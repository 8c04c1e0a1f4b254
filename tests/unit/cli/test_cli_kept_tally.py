"""What a standalone rank remembers of its frames."""

from pyroaring import BitMap64

from beamcast.core.ids import Epoch, FrameId, frame_key
from beamcast.pools.standalone import MAX_RANGES, KeptTally
from beamcast.pools.tally import Tally


def test_the_tally_is_emptied_into_bitmaps() -> None:
    tally, kept = Tally(), KeptTally()
    tally.processed.extend(range(10))
    tally.dropped.append(10)
    tally.failed.append(12)
    kept.take(tally)
    kept.take(tally)
    assert (kept.processed, kept.dropped, kept.failed) == (
        BitMap64(range(10)),
        BitMap64([10]),
        BitMap64([12]),
    )
    assert kept.done == 12
    assert tally.processed == []


def test_gaps_are_named_within_an_epoch_only() -> None:
    later = [frame_key(Epoch(1), FrameId(number)) for number in (3, 6, 7)]
    kept = KeptTally(processed=BitMap64([0, 1, 2, 5, 9, *later]))
    assert kept.missing() == (7, "3-4,6-8,e1:4-5")


def test_ids_that_jump_far_cost_nothing() -> None:
    assert KeptTally(processed=BitMap64([1, 1 << 47])).missing() == ((1 << 47) - 2, f"2-{(1 << 47) - 1}")


def test_nothing_and_everything_have_no_gaps() -> None:
    assert KeptTally().missing() == (0, "")
    assert KeptTally(processed=BitMap64(range(5, 900))).missing() == (0, "")


def test_many_gaps_are_counted_and_not_all_written() -> None:
    count, text = KeptTally(processed=BitMap64(range(0, 10000, 2))).missing()
    assert count == 4999
    assert text.count(",") == MAX_RANGES
    assert text.endswith(",…")
