"""What `beamcast network render` writes, and what a forwarder's table must hold."""

import pytest

from beamcast.config.check_site import check_site
from beamcast.config.site import Forwarder, Network, Ports, Site, Tls
from beamcast.core.errors import ConfigError, UsageError
from beamcast.launch.network.forwarders import render

TLS = Tls(ca="/c/ca.pem", certificate="/c/own.pem", key="/c/own.key", peer="beamline")
PORTS = Ports(first=20000, last=20006)
HAPROXY = Forwarder(kind="haproxy", host="10.0.0.5", ports=PORTS, target="10.9.0.1")
STUNNEL = Forwarder(kind="stunnel", host="10.0.0.5", ports=PORTS, target="10.9.0.1", tls=TLS)


def site(forwarder: Forwarder | None) -> Site:
    return Site(name="s", network=Network(forwarder=forwarder))


def test_haproxy_passes_a_range_on_to_equal_ports() -> None:
    text = render(site(HAPROXY), end="cluster", cluster_address="")
    assert "bind 10.0.0.5:20000-20006\n" in text
    assert "server beamline 10.9.0.1\n" in text
    assert "mode tcp" in text


def test_each_end_of_stunnel_has_a_section_for_each_port() -> None:
    near = render(site(STUNNEL), end="cluster", cluster_address="127.0.0.1")
    far = render(site(STUNNEL), end="beamline", cluster_address="127.0.0.1")
    for port in range(20000, 20007):
        assert f"accept = 10.0.0.5:{port}\nconnect = 10.9.0.1:{port}\n" in near
        assert f"accept = 10.9.0.1:{port}\nconnect = 127.0.0.1:{port}\n" in far
    assert "client = yes" in near
    assert "client = no" in far
    for text in (near, far):
        assert "verifyChain = yes" in text
        assert "checkHost = beamline" in text


@pytest.mark.parametrize(
    ("forwarder", "end", "says"),
    [
        (None, "cluster", "no [network.forwarder]"),
        (Forwarder(kind="other", host="10.0.0.5"), "cluster", "another kind"),
        (HAPROXY, "beamline", "one end"),
    ],
)
def test_what_can_not_be_written(forwarder: Forwarder | None, end: str, says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("[", r"\[")):
        render(site(forwarder), end=end, cluster_address="")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("forwarder", "says"),
    [
        (Forwarder(kind="haproxy", host="gate.example"), "'gate.example' is no address"),
        (
            Forwarder(kind="haproxy", host="10.0.0.5", ports=Ports(first=20000, last=20003)),
            "passes on 4 ports",
        ),
        (
            Forwarder(kind="haproxy", host="10.0.0.5", ports=Ports(first=20009, last=20003)),
            "comes after the last",
        ),
        (Forwarder(kind="haproxy", host="10.0.0.5", tls=TLS), "no certificates"),
        (Forwarder(kind="stunnel", host="10.0.0.5", target="10.9.0.1"), "needs certificates"),
        (Forwarder(kind="stunnel", host="10.0.0.5", tls=TLS), "address of its other end"),
    ],
)
def test_what_is_wrong_with_a_forwarder_is_said(forwarder: Forwarder, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_site(site(forwarder), file="site.toml")
    assert says in str(error.value)
    assert "network.forwarder" in str(error.value)


@pytest.mark.parametrize("forwarder", [HAPROXY, STUNNEL, None, Forwarder(kind="other", host="10.0.0.5")])
def test_what_is_right_is_taken(forwarder: Forwarder | None) -> None:
    check_site(site(forwarder), file="site.toml")
