"""How frames leave the mirror in stacks: whole ones at once, others after a wait, none to a rank that is gone."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pvaccess
import pytest

from beamcast.core.dispatch import RetryRules
from beamcast.core.errors import DataError
from beamcast.core.keyset import encode_keys
from beamcast.core.replay import Overflow, ReplayLimits
from beamcast.members.dispatcher import outbox
from beamcast.members.dispatcher.outbox import StackedFrames
from beamcast.members.dispatcher.post import Post
from beamcast.pools.acks import SESSION_BITS
from beamcast.pva.messages import Join, Progress
from beamcast.pva.ndarray import make_ndarray
from beamcast.pva.stack import FrameTemplate, Stack

WAIT_S = 0.25  # exact in binary, as are the sums with the clock
CHANNELS = ["x:work:0", "x:work:1"]


class Server:
    """Keeps the ids of each stack that is sent, by the number of the rank."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, list[int]]] = []

    def addRecord(self, channel: str, pv: Any) -> None:  # noqa: N802 - pvaccess's name
        assert channel in CHANNELS

    def update(self, channel: str, pv: Any) -> None:
        self.sent.append((CHANNELS.index(channel), Stack(pv, FrameTemplate(pv, id_field="uniqueId")).ids))


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


def frame(number: int) -> Any:
    return make_ndarray(np.full((3, 4), number, np.uint8), frame_id=number, timestamp_s=1.0)


class Desk:
    """A post for two ranks, stacks of 4, windows of 8, on a clock of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.server = Clock(), Server()
        monkeypatch.setattr(outbox, "time", self.clock)
        self.post = Post(
            "work",
            CHANNELS,
            outbox=StackedFrames(self.server, CHANNELS, id_field="uniqueId", frames=4, wait_s=WAIT_S),
            turn_frames=4,
            limits=ReplayLimits(max_bytes=100_000, overflow=Overflow.DROP),
            rules=RetryRules(max_attempts=3, retire_on_ack=True),
            window_frames=8,
            lock=threading.RLock(),
            spill_folder=folder / "spill",
        )
        self.post.open(frame(0))
        for rank in (0, 1):
            self.post.join(Join(pool="work", rank=rank, generation=1 << SESSION_BITS))

    def frames(self, first: int, last: int) -> None:
        for number in range(first, last + 1):
            self.post.frame(number, frame(number), 12)

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.post.flush(self.clock.now)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def test_full_stacks_leave_at_once_to_ranks_in_turn(desk: Desk) -> None:
    desk.frames(1, 8)
    assert desk.server.sent == [(0, [1, 2, 3, 4]), (1, [5, 6, 7, 8])]


def test_a_stack_that_does_not_fill_leaves_after_its_wait_and_ends_the_turn(desk: Desk) -> None:
    desk.frames(1, 2)
    desk.wait(0.75 * WAIT_S)
    desk.frames(3, 3)
    assert desk.server.sent == []
    desk.wait(0.25 * WAIT_S)
    assert desk.server.sent == [(0, [1, 2, 3])]
    desk.frames(4, 4)
    desk.wait(WAIT_S)
    assert desk.server.sent[1:] == [(1, [4])]


def test_nothing_is_sent_where_nothing_waits(desk: Desk) -> None:
    desk.wait(1.0)
    assert desk.server.sent == []


def test_what_waits_for_a_rank_that_dies_goes_to_the_other_and_not_to_its_successor(desk: Desk) -> None:
    desk.frames(1, 2)
    desk.post.died(0, 1)
    desk.wait(WAIT_S)
    assert desk.server.sent == [(1, [1, 2])]


def test_a_rank_that_joins_once_more_gets_its_frames_once(desk: Desk) -> None:
    desk.frames(1, 2)
    desk.post.join(Join(pool="work", rank=0, generation=(1 << SESSION_BITS) + 1))
    desk.wait(WAIT_S)
    assert [number for _, ids in desk.server.sent for number in ids] == [1, 2]


def test_of_a_stack_only_what_failed_is_sent_again_and_its_last_try_is_alone(desk: Desk) -> None:
    desk.frames(1, 4)
    ok = encode_keys([1, 2, 4])
    generation = 1 << SESSION_BITS
    for serial, rank in ((1, 0), (2, 1)):
        told = Progress(
            pool="work", rank=rank, generation=generation, serial=serial,
            processed=ok if rank == 0 else b"", failed=((3, "no peak"),),
        )  # fmt: skip
        desk.post.progress(told, now=desk.clock.now)
        desk.post.flush(desk.clock.now + WAIT_S)
    assert [ids for _, ids in desk.server.sent] == [[1, 2, 3, 4], [3], [3]]
    assert desk.post.failed == []


def test_a_frame_that_is_no_image_any_more_says_so(desk: Desk) -> None:
    desk.post.frame(1, pvaccess.PvObject({"uniqueId": pvaccess.INT}, {"uniqueId": 1}), 12)
    assert "value" in desk.post.unfit
    assert desk.server.sent == []


def test_a_source_without_images_is_refused_at_the_start() -> None:
    box = StackedFrames(Server(), CHANNELS, id_field="uniqueId", frames=4, wait_s=WAIT_S)
    with pytest.raises(DataError, match="leave it out"):
        box.open(pvaccess.PvObject({"uniqueId": pvaccess.INT}, {"uniqueId": 1}))
