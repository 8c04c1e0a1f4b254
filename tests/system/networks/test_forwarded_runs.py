"""Runs through what facilities put between their networks: haproxy, stunnel, a second mirror. No packet is routed."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from networks.cluster import Cluster
from networks.forwarding import FIRST_PORT, Certificates, forwarder, render, start
from networks.separated import TwoNetworks
from networks.stream import NOT_REACHABLE, Stream, until
from requirements import REPOSITORY, need

pytestmark = [pytest.mark.system, pytest.mark.netns, pytest.mark.timeout(240)]

ENOUGH = 400
RELAY_PORT = 31600


@pytest.fixture
def gateway(two_networks: TwoNetworks) -> str:
    """The gateway as the nodes see it; it routes nothing."""
    two_networks.route_through_gateway(False)
    return two_networks.address(two_networks.gateway, "eth1")


def test_doctor_sends_a_frame_through_the_forwarder(
    two_networks: TwoNetworks, cluster: Cluster, gateway: str, tmp_path: Path
) -> None:
    """And says so where nothing listens there."""
    need("haproxy")
    mirror = two_networks.address(two_networks.mirror, "eth1")
    table = forwarder("haproxy", host=gateway, target=mirror)
    site = cluster.write_site(tmp_path, beamline="eth0", cluster="eth1", more=NOT_REACHABLE + table)
    words = [sys.executable, "-m", "beamcast", "doctor", "--json", "--site", str(site), "--only", "forwarder"]

    def doctor() -> tuple[int, dict[str, Any]]:
        done = two_networks.mirror.run(*words, environment={"PYTHONPATH": str(REPOSITORY / "src")})
        (finding,) = json.loads(done.stdout)["findings"]
        return done.returncode, finding

    status, finding = doctor()
    assert (status, finding["verdict"]) == (1, "fail")
    assert "beamcast network render" in finding["do"]
    config = render(two_networks.gateway, site)
    start(two_networks.gateway, ["haproxy", "-f"], tmp_path / "haproxy.cfg", config)
    status, finding = doctor()
    assert (status, finding["verdict"]) == (0, "ok"), finding
    assert gateway in finding["found"]


@pytest.mark.slow
def test_through_haproxy(
    two_networks: TwoNetworks, cluster: Cluster, stream: Stream, gateway: str, tmp_path: Path
) -> None:
    need("haproxy")
    mirror = two_networks.address(two_networks.mirror, "eth1")
    table = forwarder("haproxy", host=gateway, target=mirror)
    site = cluster.write_site(tmp_path, beamline="eth0", cluster="eth1", more=NOT_REACHABLE + table)
    start(
        two_networks.gateway, ["haproxy", "-f"], tmp_path / "haproxy.cfg", render(two_networks.gateway, site)
    )
    stream.start_run(site, delivery="at-least-once")
    stream.wait_collected(ENOUGH)
    names = stream.names_at_beamline().rpartition(":")[2]
    assert not two_networks.node1.can_connect(mirror, int(names)), "nothing but the forwarder leads there"
    stream.finish()


def test_through_stunnel(
    two_networks: TwoNetworks, cluster: Cluster, stream: Stream, gateway: str, tmp_path: Path
) -> None:
    need("stunnel")
    mirror = two_networks.address(two_networks.mirror, "eth1")
    papers = Certificates(tmp_path / "papers")
    table = NOT_REACHABLE + forwarder("stunnel", host=gateway, target=mirror)
    # Each end has the site file with its own certificate.
    for name, host, end, peer in (
        ("beamline", two_networks.mirror, "beamline", "gateway"),
        ("gateway", two_networks.gateway, "cluster", "beamline"),
    ):
        site = cluster.write_site(
            tmp_path, beamline="eth0", cluster="lo", more=table + papers.table(name, peer=peer)
        )
        start(host, ["stunnel"], tmp_path / f"{name}.conf", render(host, site, "--end", end))
    site = cluster.write_site(
        tmp_path, beamline="eth0", cluster="lo", more=table + papers.table("beamline", peer="gateway")
    )
    stream.start_run(site)
    stream.wait_collected(ENOUGH)
    assert not stream.can_get(
        two_networks.gateway, f"{stream.prefix}:mirror", f"{mirror}:{FIRST_PORT}", seconds=1
    )
    assert _tls_answer(two_networks, mirror) == "refused", "whoever has no certificate gets nothing"
    stream.finish()


def _tls_answer(two_networks: TwoNetworks, address: str) -> str:
    """What a TLS client without a certificate gets from the beamline's end."""
    script = (
        "import socket, ssl, sys\n"
        "context = ssl.create_default_context(); context.check_hostname = False\n"
        "context.verify_mode = ssl.CERT_NONE\n"
        "try:\n"
        "    plain = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)\n"
        "    with context.wrap_socket(plain) as one:\n"
        "        one.sendall(b'x'); print('answered' if one.recv(1) else 'refused')\n"
        "except (ssl.SSLError, ConnectionError): print('refused')\n"
    )
    done = two_networks.gateway.run("python3", "-c", script, address, str(FIRST_PORT))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_through_two_mirrors_in_a_chain(
    two_networks: TwoNetworks, cluster: Cluster, stream: Stream, gateway: str, tmp_path: Path
) -> None:
    nets = two_networks
    relay = f"{nets.address(nets.mirror, 'eth1')}:{RELAY_PORT}"
    relayed = f"{stream.prefix}:relayed"
    words = ["mirror", "--source", stream.channel, "--channel", relayed, "--listen", relay]
    stream.start(nets.mirror, [*words, "--source-server", stream.address], "relay.log")
    until(lambda: "mirroring" in (tmp_path / "relay.log").read_text(), 30, (tmp_path / "relay.log").read_text)
    assert not stream.can_get(nets.node1, relayed, relay, seconds=1)
    # The run, with its own mirror, stands on the gateway: it sees both networks.
    site = cluster.write_site(tmp_path, beamline="eth0", cluster="eth1")
    stream.start_run(site, host=nets.gateway, channel=relayed, address=relay, delivery="at-least-once")
    stream.wait_collected(1)
    reader = stream.read_results(nets.gateway)
    result = f"{stream.prefix}:result"
    back = f"{nets.address(nets.mirror)}:{RELAY_PORT + 1}"
    words = ["mirror", "--source", result, "--channel", f"{result}:back", "--listen", back]
    stream.start(nets.mirror, [*words, "--source-server", stream.names_at_beamline()], "back.log")
    until(lambda: "mirroring" in (tmp_path / "back.log").read_text(), 30, (tmp_path / "back.log").read_text)
    assert stream.can_get(nets.detector, f"{result}:back", back)
    stream.wait_collected(ENOUGH)
    ids = reader()
    assert ids == list(range(ids[0], ids[-1] + 1)), "the first mirror lost none either"
    stream.finish()
