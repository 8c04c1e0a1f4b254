"""Searching by UDP: where, and what is made of the answers. The search itself is on loopback."""

import asyncio
import socket
import threading

import pytest

from beamcast.pva.endpoint import Endpoint
from beamcast.pva.search import SEARCH_RESPONSE, parse_search, search_response
from beamcast.pva.udp_search import DEFAULT_PORT, ask_by_udp, search_targets, served_at

GUID = b"g" * 12


def test_targets_are_those_of_a_client_with_the_same_settings() -> None:
    settings = {"EPICS_PVA_ADDR_LIST": "127.0.0.1 127.0.0.2:7777", "EPICS_PVA_AUTO_ADDR_LIST": "NO"}
    assert search_targets(settings) == (Endpoint("127.0.0.1", DEFAULT_PORT), Endpoint("127.0.0.2", 7777))
    assert search_targets(settings | {"EPICS_PVA_BROADCAST_PORT": "9"})[0].port == 9
    assert search_targets({"EPICS_PVA_AUTO_ADDR_LIST": "NO"}) == ()
    assert search_targets({}), "the broadcast addresses of the interfaces"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (Endpoint("10.0.0.7", 5075), Endpoint("10.0.0.7", 5075)),
        (Endpoint("0.0.0.0", 5075), Endpoint("192.168.1.5", 5075)),
        (None, None),
    ],
)
def test_an_answer_says_where(said: Endpoint | None, meant: Endpoint | None) -> None:
    assert served_at(search_response(GUID, 1, said, [1]), "192.168.1.5") == meant


def test_what_is_no_answer_is_none() -> None:
    good = search_response(GUID, 1, Endpoint("10.0.0.7", 5075), [1])
    assert good[3] == SEARCH_RESPONSE
    for bad in (b"", b"x", good[:20], b"\0" + good[1:], good[:3] + b"\0" + good[4:]):
        assert served_at(bad, "10.0.0.1") is None


def test_the_first_server_that_knows_the_channel_is_believed() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)

        def answer() -> None:
            data, client = server.recvfrom(4096)
            _, _, wanted = parse_search(data[8:], "<")
            assert [name for _, name in wanted] == ["det:image"]
            server.sendto(b"noise", client)
            server.sendto(search_response(GUID, 1, None, [1]), client)
            server.sendto(search_response(GUID, 1, Endpoint("0.0.0.0", 6000), [1]), client)

        thread = threading.Thread(target=answer)
        thread.start()
        target = Endpoint("127.0.0.1", server.getsockname()[1])
        found = asyncio.run(ask_by_udp([target], "det:image"))
        thread.join()
    assert found == Endpoint("127.0.0.1", 6000)
