"""Text of options: what is taken and what is refused."""

import os

import pytest

from beamcast.cli.ground import environment
from beamcast.cli.options import parse_endpoints, parse_shape
from beamcast.cli.rank import distributor_slot, parse_params, side_channel
from beamcast.core.errors import UsageError


def test_a_shape_is_rows_by_columns() -> None:
    assert parse_shape("512x1024") == (512, 1024)


@pytest.mark.parametrize("text", ["", "512", "0x5", "5x", "5x-1", "5 x 5", "5x5x5", "٣x٣"])
def test_other_shapes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shape"):
        parse_shape(text)


def test_endpoints_are_checked() -> None:
    assert parse_endpoints(["10.0.0.1:65535"], option="--x") == ["10.0.0.1:65535"]
    assert parse_endpoints(["localhost:1"], option="--x") == ["127.0.0.1:1"]
    assert parse_endpoints(None, option="--x") == []


@pytest.mark.parametrize("text", ["host", ":5", "host:", "host:0", "host:65536", "host:a"])
def test_other_endpoints_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--name-server is HOST:PORT"):
        parse_endpoints([text], option="--name-server")


def test_a_host_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(
        UsageError, match=r"--x nowhere\.invalid:5075: the host name 'nowhere\.invalid' has no IPv4"
    ):
        parse_endpoints(["nowhere.invalid:5075"], option="--x")


@pytest.mark.parametrize("text", ["[::1]:5075", "::1:5075"])
def test_ipv6_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match="pvAccess speaks no IPv6 here"):
        parse_endpoints([text], option="--x")


def test_params_are_a_json_object() -> None:
    assert parse_params('{"threshold": 5}') == {"threshold": 5}
    for text in ("", "5", "[1]", "{", "{'a': 1}"):
        with pytest.raises(UsageError, match="--params"):
            parse_params(text)


def test_a_distributor_slot_can_not_break_out_of_its_request() -> None:
    slot = distributor_slot("g", "s1", updates=2, trigger="uniqueId")
    assert slot.distributor_request() == "pydistributor=group:g;set:s1;trigger:uniqueId;updates:2"
    with pytest.raises(UsageError, match="--group"):
        distributor_slot("g;set:x", "s1", updates=1, trigger="uniqueId")


def test_status_and_control_stand_beside_the_output() -> None:
    assert side_channel("bl:c:1:output", "status") == "bl:c:1:status"
    assert side_channel("plain", "control") == "plain:control"


def test_name_servers_replace_the_users_search_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"EPICS_PVA_ADDR_LIST": "10.0.0.9", "HOME": "h"})
    assert environment("127.0.0.1", 5, ["a:1"])["EPICS_PVA_ADDR_LIST"] == ""
    own = environment("127.0.0.1", 5, [])
    assert own["EPICS_PVA_ADDR_LIST"] == "10.0.0.9"
    assert own["EPICS_PVAS_SERVER_PORT"] == "5"
    assert "HOME" not in own
