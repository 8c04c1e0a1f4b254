"""The name server's process when it is killed."""

import signal
import socket
import subprocess
import time
from typing import Any

import pytest

from beamcast.core.errors import WorldError
from beamcast.members import names
from beamcast.members.names import RESTARTS, NameServerProcess
from beamcast.pva.endpoint import Endpoint


def kill(server: NameServerProcess) -> None:
    process: subprocess.Popen[str] | None = server._process
    assert process is not None
    process.send_signal(signal.SIGKILL)
    process.wait(5)


def told(server: NameServerProcess, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the process is told from now on."""
    lines: list[dict[str, Any]] = []
    tell = server._tell

    def both(news: Any) -> None:
        lines.append(news)
        tell(news)

    monkeypatch.setattr(server, "_tell", both)
    return lines


def test_the_next_one_has_its_port_and_is_told_what_it_knew(monkeypatch: pytest.MonkeyPatch) -> None:
    with NameServerProcess(host="127.0.0.1", port=0) as server:
        server.serve_at({"a": Endpoint("127.0.0.1", 1), "b": Endpoint("127.0.0.1", 2)})
        server.forget(["b"])
        server.ask_at({"c": Endpoint("127.0.0.1", 3)})
        assert not server.revive()
        at = server.endpoint
        lines = told(server, monkeypatch)
        kill(server)
        assert server.revive()
        assert server.endpoint == at
        assert lines == [{"serve": {"a": ["127.0.0.1", 1]}}, {"ask": {"c": ["127.0.0.1", 3]}}]
        assert answers(at)


def test_news_for_a_dead_one_reach_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with NameServerProcess(host="127.0.0.1", port=0) as server:
        lines = told(server, monkeypatch)
        kill(server)
        server.serve_at({"a": Endpoint("127.0.0.1", 1)})
        lines.clear()
        assert server.revive()
        assert lines == [{"serve": {"a": ["127.0.0.1", 1]}}]
        assert server.where("a") == Endpoint("127.0.0.1", 1)


def test_the_one_of_a_process_s_own_client_is_looked_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "LOOK_S", 0.05)
    monkeypatch.setattr(names, "_ASKING", [])
    at = Endpoint.parse(names.asking_name_server(["127.0.0.1:9"]))
    (asking,) = names._ASKING
    first = asking._process
    kill(asking)
    deadline = time.monotonic() + 20
    try:
        while asking._process is first or asking._process is None or not answers(at):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        names._ASKING.clear()
        asking.__exit__(None, None, None)


def answers(at: Endpoint) -> bool:
    try:
        with socket.create_connection((at.host, at.port), 1) as client:
            client.settimeout(1)
            return client.recv(1) == b"\xca"
    except OSError:
        return False


def test_one_that_ends_again_and_again_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "RESTART_WINDOW_S", 1e9)
    with NameServerProcess(host="127.0.0.1", port=0) as server:
        for _ in range(RESTARTS):
            kill(server)
            assert server.revive()
        kill(server)
        with pytest.raises(WorldError, match="ends again and again"):
            server.revive()
