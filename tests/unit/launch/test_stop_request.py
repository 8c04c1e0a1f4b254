"""Stop requests in the run directory."""

import socket
from pathlib import Path

import msgspec

from beamcast.launch.rundir.stop_request import (
    CLOCK_SLACK_S,
    STOP_FILE,
    StopRequest,
    leave_request,
    take_request,
    wait_until_taken,
)


def test_a_request_is_taken_once(tmp_path: Path) -> None:
    assert take_request(tmp_path) is None
    leave_request(tmp_path, deadline_s=20, at_once=True)
    request = take_request(tmp_path)
    assert request is not None
    assert (request.host, request.at_once) == (socket.gethostname(), True)
    assert take_request(tmp_path) is None
    assert wait_until_taken(tmp_path, deadline_s=0)


def test_a_request_that_nobody_obeys_is_taken_back(tmp_path: Path) -> None:
    leave_request(tmp_path, deadline_s=0, at_once=False)
    assert not wait_until_taken(tmp_path, deadline_s=0.05, poll_s=0.01)
    assert list(tmp_path.iterdir()) == []


def test_one_that_was_forgotten_is_not_obeyed_later(tmp_path: Path) -> None:
    leave_request(tmp_path, deadline_s=-CLOCK_SLACK_S - 1, at_once=False)
    assert take_request(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_request_is_removed(tmp_path: Path) -> None:
    (tmp_path / STOP_FILE).write_bytes(b"stop!")
    assert take_request(tmp_path) is None
    (tmp_path / STOP_FILE).write_bytes(msgspec.json.encode({"host": 3}))
    assert take_request(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    assert msgspec.json.decode(b'{"host":"a","pid":1,"until":2.0}', type=StopRequest).at_once is False
