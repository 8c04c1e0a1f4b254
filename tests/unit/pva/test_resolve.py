"""Host names become addresses, or are refused in time."""

import socket
import threading

import pytest

from beamcast.core.errors import WorldError
from beamcast.pva.endpoint import Endpoint
from beamcast.pva.interfaces import resolve_address
from beamcast.pva.resolve import numeric, resolved


def test_names_become_numbers_and_numbers_stay() -> None:
    assert resolved(Endpoint("localhost", 5)) == Endpoint("127.0.0.1", 5)
    assert numeric("192.0.2.1") == "192.0.2.1"


def test_a_name_service_that_is_silent_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    enough = threading.Event()

    def silent(*_: object) -> list[object]:
        enough.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    with pytest.raises(WorldError, match=r"has no IPv4 address here: no answer within 0\.05 s"):
        numeric("detector.example", timeout_s=0.05)
    assert not enough.is_set()
    enough.set()


@pytest.mark.parametrize("name", ["nowhere.invalid", "a" * 70 + ".example", "::1"])
def test_what_has_no_ipv4_address_is_refused_by_name(name: str) -> None:
    with pytest.raises(WorldError, match=f"the host name '{name}' has no IPv4 address here"):
        numeric(name)


def test_an_interface_may_be_given_by_a_name_of_this_host_and_not_as_ipv6() -> None:
    assert resolve_address(["localhost"]) == "127.0.0.1"
    for text in ("::1", "[::1]", "fe80::1%eth0"):
        with pytest.raises(WorldError, match="is an IPv6 address"):
            resolve_address([text])
