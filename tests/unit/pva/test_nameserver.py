"""The name server's side of the pvAccess protocol, spoken over a real loopback socket."""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.core.errors import WorldError
from beamcast.pva import nameserver
from beamcast.pva.nameserver import MAX_CHANNELS, Endpoint, NameServer, find
from beamcast.pva.search import REPLY_REQUIRED, UNICAST, parse_search, search_response

LOOPBACK = "127.0.0.1"


@pytest.fixture
def server() -> Iterator[NameServer]:
    with socket.create_server((LOOPBACK, 0)) as probe:
        port = probe.getsockname()[1]
    with NameServer(host=LOOPBACK, port=port) as running:
        yield running


class Client:
    """Just enough of a pvAccess client."""

    def __init__(self, server: NameServer) -> None:
        self.socket = socket.create_connection((LOOPBACK, server.endpoint.port), timeout=5)

    def close(self) -> None:
        self.socket.close()

    def read(self) -> tuple[int, int, bytes]:
        """(flags, command, payload) of the next message."""
        magic, _, flags, command, size = struct.unpack("<BBBBI", self._exactly(8))
        assert magic == 0xCA
        return flags, command, b"" if flags & 1 else self._exactly(size)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            assert piece, "the server closed the connection"
            data += piece
        return data

    def send(self, command: int, payload: bytes, order: str = "<") -> None:
        flags = 0x80 if order == ">" else 0
        self.socket.sendall(struct.pack(order + "BBBBI", 0xCA, 2, flags, command, len(payload)) + payload)


def search(names: list[str], *, order: str = "<", sequence: int = 7, flags: int = 0) -> bytes:
    payload = struct.pack(order + "iB3x16sH", sequence, flags, b"\0" * 16, 0)
    payload += b"\x01\x03tcp" + struct.pack(order + "H", len(names))
    for channel_id, name in enumerate(names):
        raw = name.encode()
        payload += struct.pack(order + "i", channel_id) + bytes([len(raw)]) + raw
    return payload


@pytest.fixture
def client(server: NameServer) -> Iterator[Client]:
    one = Client(server)
    yield one
    one.close()


def test_greets_and_validates(client: Client) -> None:
    assert client.read()[:2] == (0x41, 2)  # byte order, a control message
    assert client.read()[1] == 1  # asks for validation
    client.send(1, struct.pack("<iHH", 1024, 100, 0) + b"\x09anonymous\xff")
    assert client.read()[1:] == (9, b"\xff")


@pytest.mark.parametrize("order", ["<", ">"])
def test_says_where_a_channel_is(server: NameServer, client: Client, order: str) -> None:
    server.serve_at({"a": Endpoint("10.1.2.3", 5555), "b": Endpoint("10.1.2.4", 6666)})
    client.read()
    client.read()
    client.send(3, search(["a", "unknown", "b"], order=order), order)
    found = {}
    for _ in range(2):
        _, command, payload = client.read()
        assert command == 4
        (sequence,) = struct.unpack_from("<i", payload, 12)
        host = socket.inet_ntoa(payload[28:32])
        (port,) = struct.unpack_from("<H", payload, 32)
        assert sequence == 7
        assert payload[34:39] == b"\x03tcp\x01"
        (count, channel_id) = struct.unpack_from("<Hi", payload, 39)
        assert count == 1
        found[channel_id] = (host, port)
    assert found == {0: ("10.1.2.3", 5555), 2: ("10.1.2.4", 6666)}


def test_answers_not_found_only_to_who_asks_once(server: NameServer, client: Client) -> None:
    client.read()
    client.read()
    client.send(3, search(["unknown"], flags=UNICAST))  # as pvxs does
    # As pvaccess does: it would close its connection.
    client.send(3, search(["unknown"], flags=REPLY_REQUIRED))
    client.send(3, search(["unknown"], sequence=8, flags=REPLY_REQUIRED | UNICAST))
    _, command, payload = client.read()
    assert command == 4
    assert struct.unpack_from("<i", payload, 12) == (8,)
    assert payload[38] == 0


def test_a_client_that_asked_too_early_is_told_when_the_channel_is_served(
    server: NameServer, client: Client
) -> None:
    client.read()
    client.read()
    client.send(3, search(["later"]))
    client.send(2, b"the search before this echo has been read")
    assert client.read()[1] == 2
    server.serve_at({"later": Endpoint("10.1.2.3", 5555)})
    _, command, payload = client.read()
    assert command == 4
    assert struct.unpack_from("<Hi", payload, 39) == (1, 0)
    assert struct.unpack_from("<H", payload, 32) == (5555,)


def test_a_client_is_told_when_a_channel_has_moved(server: NameServer, client: Client) -> None:
    server.serve_at({"image": Endpoint("10.1.2.3", 5555)})
    client.read()
    client.read()
    client.send(3, search(["image"], flags=REPLY_REQUIRED))
    assert struct.unpack_from("<H", client.read()[2], 32) == (5555,)
    # No news for it.
    server.serve_at({"image": Endpoint("10.1.2.3", 5555), "other": Endpoint("10.1.2.3", 5556)})
    server.forget(["image"])
    server.serve_at({"image": Endpoint("10.1.2.3", 6666)})
    assert struct.unpack_from("<H", client.read()[2], 32) == (6666,)


def test_a_channel_of_the_same_name_is_told_as_well_and_they_are_bounded(
    server: NameServer, client: Client
) -> None:
    client.read()
    client.read()
    for _ in range(3):
        client.send(3, search(["image"]))
    client.send(3, search(["other"] + ["image"] * 2 * MAX_CHANNELS))
    client.send(2, b"the searches before this echo have been read")
    assert client.read()[1] == 2
    server.serve_at({"image": Endpoint("10.1.2.3", 5555)})
    _, _, payload = client.read()
    (count,) = struct.unpack_from("<H", payload, 39)
    ids = struct.unpack_from(f"<{count}i", payload, 41)
    assert ids == tuple(range(MAX_CHANNELS + 1, 2 * MAX_CHANNELS + 1))


def test_a_program_without_pvaccess_can_ask(server: NameServer) -> None:
    assert find(server.endpoint, "a") is None
    server.serve_at({"a": Endpoint("10.1.2.3", 5555)})
    assert find(server.endpoint, "a") == Endpoint("10.1.2.3", 5555)


def test_echoes(client: Client) -> None:
    client.read()
    client.read()
    client.send(2, b"still there?")
    assert client.read()[1:] == (2, b"still there?")


def test_a_channel_that_moved_is_found_at_its_new_place(server: NameServer) -> None:
    server.serve_at({"a": Endpoint("10.1.2.3", 1)})
    server.serve_at({"a": Endpoint("10.1.2.9", 2)})
    assert server.where("a") == Endpoint("10.1.2.9", 2)
    server.forget(["a"])
    assert server.where("a") is None


@given(st.binary(max_size=200))
def test_garbage_is_refused_not_crashed_on(garbage: bytes) -> None:
    with contextlib.suppress(struct.error):
        parse_search(garbage, "<")


def test_a_stranger_does_not_disturb_the_others(server: NameServer, client: Client) -> None:
    stranger = Client(server)
    stranger.socket.sendall(b"GET / HTTP/1.1\r\nHost: beamline\r\n\r\n")
    huge = Client(server)
    huge.socket.sendall(struct.pack("<BBBBI", 0xCA, 2, 0, 3, 0xFFFFFFF0))
    server.serve_at({"a": Endpoint("10.1.2.3", 5555)})
    client.read()
    client.read()
    client.send(3, search(["a"]))
    assert client.read()[1] == 4
    stranger.close()
    huge.close()


def test_a_busy_port_is_an_error_that_says_so() -> None:
    with socket.create_server((LOOPBACK, 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(WorldError, match=f"port {port} .*is not free"):
            NameServer(host=LOOPBACK, port=port).__enter__()


@given(st.ip_addresses(v=4).map(str), st.integers(1, 65535), st.lists(st.integers(0, 2**31 - 1), max_size=20))
def test_a_response_has_the_length_that_it_says(host: str, port: int, ids: list[int]) -> None:
    message = search_response(b"x" * 12, 1, Endpoint(host, port), ids)
    (size,) = struct.unpack_from("<I", message, 4)
    assert len(message) == 8 + size == 8 + 12 + 4 + 16 + 2 + 4 + 1 + 2 + 4 * len(ids)


def test_an_endpoint_needs_a_port() -> None:
    assert Endpoint.parse("10.0.0.1:80") == Endpoint("10.0.0.1", 80)
    with pytest.raises(ValueError, match="host:port"):
        Endpoint.parse("80")


def test_what_nobody_told_it_is_asked_upstream(server: NameServer) -> None:
    server.serve_at({"up:image": Endpoint("192.0.2.7", 5075)})
    with socket.create_server((LOOPBACK, 0)) as silent:  # accepts, and never says a word
        mute = Endpoint(LOOPBACK, silent.getsockname()[1])
        gone = Endpoint(LOOPBACK, 1)
        with NameServer(host=LOOPBACK, port=0, upstream=[gone, mute, server.endpoint]) as asking:
            assert find(asking.endpoint, "up:image") == Endpoint("192.0.2.7", 5075)
            server.serve_at({"up:image": Endpoint("192.0.2.8", 5076)})
            assert find(asking.endpoint, "up:image") == Endpoint("192.0.2.8", 5076)


def test_upstream_is_asked_again_as_long_as_a_client_waits(server: NameServer) -> None:
    with NameServer(host=LOOPBACK, port=0, upstream=[server.endpoint]) as asking:
        waits = Client(asking)
        waits.read()
        waits.read()
        waits.send(3, search(["up:late"], flags=REPLY_REQUIRED))
        time.sleep(0.2)
        server.serve_at({"up:late": Endpoint("192.0.2.7", 5075)})
        _, command, payload = waits.read()
        assert command == 4
        assert struct.unpack_from("<H", payload, 32) == (5075,)
        waits.close()


def test_what_nobody_upstream_knows_gets_no_answer(server: NameServer) -> None:
    with NameServer(host=LOOPBACK, port=0, upstream=[server.endpoint]) as asking, pytest.raises(TimeoutError):
        find(asking.endpoint, "up:nothing", timeout_s=0.3)


def test_nobody_is_sent_to_a_server_of_this_host_that_is_gone(server: NameServer) -> None:
    with socket.create_server((LOOPBACK, 0)) as lives:
        where = Endpoint(LOOPBACK, lives.getsockname()[1])
        server.serve_at({"image": where})
        assert find(server.endpoint, "image") == where
    deadline = time.monotonic() + 5  # what it knows of sockets may be some milliseconds old
    while find(server.endpoint, "image") is not None:
        assert time.monotonic() < deadline
    # Of other hosts nothing can be known: a firewall may answer in their place.
    elsewhere = Endpoint("192.0.2.1", where.port)
    server.serve_at({"image": elsewhere})
    assert find(server.endpoint, "image") == elsewhere


def test_a_server_that_is_given_by_name_is_told_in_numbers(server: NameServer) -> None:
    """What a search answers with is in numbers; a name in it ended the task that asked, unseen (C2)."""
    server.serve_at({"up:image": server.endpoint})  # as a pvAccess server answers that means itself
    by_name = Endpoint("localhost", server.endpoint.port)
    with NameServer(host=LOOPBACK, port=0) as asking:
        asking.ask_at({"up:image": by_name})
        assert find(asking.endpoint, "up:image") == server.endpoint
    with NameServer(host=LOOPBACK, port=0, upstream=[Endpoint("nowhere.invalid", 1), by_name]) as asking:
        assert find(asking.endpoint, "up:image") == server.endpoint


def test_a_fault_of_a_background_task_is_told_once(
    server: NameServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(server: Endpoint, name: str) -> None:
        raise KeyError("a fault")

    monkeypatch.setattr(nameserver, "_ask", broken)
    with NameServer(host=LOOPBACK, port=0, upstream=[server.endpoint]) as asking:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                find(asking.endpoint, "up:image", timeout_s=0.1)
    (told,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert told.exc_info is not None
    assert isinstance(told.exc_info[1], KeyError)
