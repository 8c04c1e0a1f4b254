"""The post office of a pool: what is sent again, and a source that comes back with another structure."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pvaccess
import pytest

from beamcast.core.dispatch import RetryRules
from beamcast.core.keyset import encode_keys
from beamcast.core.replay import Overflow, ReplayLimits
from beamcast.members.dispatcher.outbox import SingleFrames
from beamcast.members.dispatcher.post import Post
from beamcast.pools.acks import SESSION_BITS
from beamcast.pva.messages import Join, Progress


class Server:
    """Refuses what pvaccess's server refuses."""

    def __init__(self) -> None:
        self.structures: dict[str, Any] = {}
        self.sent: list[int] = []

    def addRecord(self, channel: str, pv: Any) -> None:  # noqa: N802 - pvaccess's name
        self.structures[channel] = pv.getStructureDict()

    def update(self, channel: str, pv: Any) -> None:
        if pv.getStructureDict() != self.structures[channel]:
            raise ValueError("structure definitions do not match")
        self.sent.append(pv["uniqueId"])


def frame(number: int) -> Any:
    return pvaccess.PvObject({"uniqueId": pvaccess.INT}, {"uniqueId": number})


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def post(server: Server, tmp_path: Path) -> Iterator[Post]:
    one = Post(
        "work",
        ["x:work:0"],
        outbox=SingleFrames(server, ["x:work:0"], id_field="uniqueId"),
        turn_frames=1,
        limits=ReplayLimits(max_bytes=10_000, overflow=Overflow.DROP, disk_bytes=0, spill_buffer_bytes=0),
        rules=RetryRules(max_attempts=2, retire_on_ack=False, retire_timeout_s=None),
        window_frames=10,
        lock=threading.RLock(),
        spill_folder=tmp_path / "spill",
    )
    one.open(frame(0))
    one.join(Join(pool="work", rank=0, generation=1 << SESSION_BITS))
    yield one
    one.close()


def processed(post: Post, serial: int, *keys: int) -> None:
    said = Progress(
        pool="work",
        rank=0,
        generation=1 << SESSION_BITS,
        serial=serial,
        processed=encode_keys(keys),
        idle=False,
    )
    assert post.progress(said, now=0.0)


def test_results_that_nobody_may_have_heard_are_made_again_once(post: Post, server: Server) -> None:
    for number in (1, 2, 3):
        post.frame(number, frame(number), 100)
    processed(post, 1, 1)
    assert server.sent == [1, 2, 3]
    post.results_lost()  # the collector has a successor: 1 was processed, 2 and 3 are in hand
    assert server.sent == [1, 2, 3, 1]
    processed(post, 2, 2, 1)
    assert server.sent == [1, 2, 3, 1, 2]
    post.frame(4, frame(4), 100)
    processed(post, 3, 3, 2, 4)
    assert server.sent == [1, 2, 3, 1, 2, 4, 3], "4 came when somebody was there to hear"
    processed(post, 4, 3)
    post.retired([1, 2, 3, 4])
    assert (post.dispatcher.held, server.sent) == (0, [1, 2, 3, 1, 2, 4, 3])


def test_a_frame_of_another_structure_is_not_sent_and_says_why(post: Post, server: Server) -> None:
    post.frame(1, frame(1), 100)
    assert (server.sent, post.unfit) == ([1], "")
    grown = {"uniqueId": pvaccess.INT, "x": pvaccess.DOUBLE}
    post.frame(2, pvaccess.PvObject(grown, {"uniqueId": 2}), 100)
    assert (server.sent, post.unfit) == ([1], "structure definitions do not match")
