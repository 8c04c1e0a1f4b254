"""Frames taken out of a queue several at a time."""

import time

import pvaccess

from beamcast.members.dispatcher.gulps import MOST_FRAMES, NAP_S, Gulps


def _queue(count: int) -> pvaccess.PvObjectQueue:
    queue = pvaccess.PvObjectQueue(1000)
    for number in range(count):
        pv = pvaccess.PvObject({"id": pvaccess.INT})
        pv["id"] = number
        queue.put(pv)
    return queue


def _ids(pvs: list[pvaccess.PvObject]) -> list[int]:
    return [pv["id"] for pv in pvs]


def test_all_that_waits_in_its_order_and_no_more_than_a_gulp() -> None:
    queue = _queue(2 * MOST_FRAMES + 3)
    gulps = Gulps(queue, wait_s=0.01)
    taken = [_ids(gulps.take()) for _ in range(4)]
    assert [len(ids) for ids in taken] == [MOST_FRAMES, MOST_FRAMES, 3, 0]
    assert [number for ids in taken for number in ids] == list(range(2 * MOST_FRAMES + 3))


def test_the_first_frame_after_a_pause_does_not_wait() -> None:
    queue = _queue(1)
    gulps = Gulps(queue, wait_s=0.01)
    waited_s = []
    for _ in range(5):
        began = time.perf_counter()
        assert len(gulps.take()) == 1
        waited_s.append(time.perf_counter() - began)
        time.sleep(2 * NAP_S)
        queue.put(pvaccess.PvObject({"id": pvaccess.INT}))
    assert min(waited_s) < NAP_S
