"""A source that comes back with another structure."""

import threading
from pathlib import Path
from typing import Any

import pvaccess

from beamcast.core.dispatch import RetryRules
from beamcast.core.replay import Overflow, ReplayLimits
from beamcast.members.outbox import SingleFrames
from beamcast.members.post import Post
from beamcast.pools.acks import SESSION_BITS
from beamcast.pva.messages import Join


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


def test_a_frame_of_another_structure_is_not_sent_and_says_why(tmp_path: Path) -> None:
    server = Server()
    post = Post(
        "work",
        ["x:work:0"],
        outbox=SingleFrames(server, ["x:work:0"]),
        turn_frames=1,
        limits=ReplayLimits(max_bytes=10_000, overflow=Overflow.DROP, disk_bytes=0, spill_buffer_bytes=0),
        rules=RetryRules(max_attempts=2, retire_on_ack=True, retire_timeout_s=None),
        window_frames=10,
        lock=threading.RLock(),
        spill_folder=tmp_path / "spill",
    )
    post.open(pvaccess.PvObject({"uniqueId": pvaccess.INT}))
    post.join(Join(pool="work", rank=0, generation=1 << SESSION_BITS))
    post.frame(1, pvaccess.PvObject({"uniqueId": pvaccess.INT}, {"uniqueId": 1}), 100)
    assert (server.sent, post.unfit) == ([1], "")
    grown = {"uniqueId": pvaccess.INT, "x": pvaccess.DOUBLE}
    post.frame(2, pvaccess.PvObject(grown, {"uniqueId": 2}), 100)
    assert (server.sent, post.unfit) == ([1], "structure definitions do not match")
    post.close()
