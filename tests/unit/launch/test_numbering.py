"""Where a rank begins to count that joins while ids begin again and again."""

from beamcast.core.ids import Epoch, FrameId, frame_key
from beamcast.launch.numbering import SURE_S, Numbering, first_of_latest

NOW = 100.0
LATER = NOW + SURE_S + 0.01


def key(epoch: int, number: int) -> int:
    return frame_key(Epoch(epoch), FrameId(number))


def test_a_rank_is_in_the_epoch_that_the_mirror_was_in_before_and_after_its_look() -> None:
    one = Numbering(late=True)
    assert not one.settle(40, key(2, 40), mirror_at=NOW, now=NOW)
    assert not one.settle(40, key(2, 40), mirror_at=NOW + 0.01, now=LATER), (
        "the mirror has said nothing since"
    )
    assert one.settle(40, key(2, 41), mirror_at=LATER, now=LATER)
    assert one.after == one.reached == key(2, 40)


def test_where_a_scan_begins_meanwhile_the_id_says_which_one_it_is_of() -> None:
    old, new = Numbering(late=True), Numbering(late=True)
    for one, seen in ((old, 40), (new, 3)):
        one.settle(seen, key(2, 40), mirror_at=NOW, now=NOW)
        assert one.settle(seen, key(3, 9), mirror_at=LATER, now=LATER)
    assert (old.after, new.after) == (key(2, 40), key(3, 3))


def test_what_is_known_stays() -> None:
    one = Numbering(late=True)
    one.begin_after(key(1, 5))
    one.begin_after(key(2, 6))
    assert one.settle(9, key(7, 7), mirror_at=LATER, now=LATER)
    assert one.after == key(1, 5)


def test_a_rank_that_saw_no_id_begins_where_the_mirror_is() -> None:
    one = Numbering(late=True)
    assert one.settle(None, key(2, 40), mirror_at=NOW, now=NOW)
    assert one.after == key(2, 40)


def test_a_collector_begins_with_the_latest_epoch_of_its_producers() -> None:
    assert first_of_latest([key(1, 40), None, key(2, 7), key(2, 5)]) == key(2, 5)
    assert first_of_latest([None]) == first_of_latest([]) == 0
