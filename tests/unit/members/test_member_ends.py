"""What the last heartbeat of a member says, by how the member ended."""

import time
from pathlib import Path

import pytest

from beamcast.members.join import SECRET_FILE, Join
from beamcast.members.member import Member, Report
from beamcast.pva.messages import MemberId, Orders
from beamcast.security.secret import RunSecret

JOIN = Join(
    run="r",
    prefix="p",
    name_server="127.0.0.1:1",
    far_name_server="127.0.0.1:1",
    first_port=1,
    last_port=2,
    served_ports=(1, 2),
    node_interfaces=(),
    beamline_interfaces=(),
    cluster_interfaces=(),
    controller_silence_s=5.0,
)


class Talking(Member):
    """One whose heartbeats go nowhere; `said` are the states in them."""

    def __init__(self, folder: Path, *, stop: bool) -> None:
        RunSecret.create().write(folder / SECRET_FILE)
        super().__init__(JOIN, folder, MemberId(kind="rank", pool="work"))
        self.said: list[str] = []
        self._stop = stop

    def _exchange(self) -> Orders:
        self.said.append(self.state)
        return Orders(stop=self._stop, heartbeat_s=0.01)


def last_word(folder: Path, error: BaseException | None, *, stop: bool) -> str:
    member = Talking(folder, stop=stop)
    try:
        with member.live(collect=Report, obey=lambda orders: None):
            member.now("running")
            deadline = time.monotonic() + 5
            while "running" not in member.said:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            if error is not None:
                raise error
    except (SystemExit, ValueError):
        pass
    return member.said[-1]


@pytest.mark.parametrize(
    ("error", "stop", "said"),
    [
        (None, True, "finished"),
        (None, False, "finished"),
        (SystemExit(143), False, "running"),  # a signal in the middle of the run, such as the scheduler's
        (SystemExit(143), True, "finished"),  # a signal that only hastens the end
        (ValueError("wrong"), False, "failed"),
    ],
)
def test_the_last_word(tmp_path: Path, error: BaseException | None, stop: bool, said: str) -> None:
    assert last_word(tmp_path, error, stop=stop) == said
