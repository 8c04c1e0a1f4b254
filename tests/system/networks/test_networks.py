"""The separated networks are what the tests that use them take for granted."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from networks.namespace import NETNS, Namespace
from networks.separated import CLUSTER, TRANSIT, TwoNetworks
from requirements import need

pytestmark = [pytest.mark.system, pytest.mark.netns]

PORT = 31000


def serve(host: Namespace, tmp_path: Path) -> None:
    """A TCP listener on all of a host's addresses, ended with its namespace."""
    log = tmp_path / f"{host.host}.log"
    words = f"import socket\ns = socket.create_server(('', {PORT}))\nprint('up', flush=True)\nwhile True: s.accept()"
    process = host.start(sys.executable, "-u", "-c", words, log=log)
    while "up" not in log.read_text():
        assert process.poll() is None, log.read_text()


def test_each_side_reaches_the_mirror_and_nobody_beyond_it(two_networks: TwoNetworks, tmp_path: Path) -> None:
    nets = two_networks
    for host in (nets.detector, nets.mirror, nets.node2):
        serve(host, tmp_path)
    mirror, detector = nets.address(nets.mirror, "eth1"), nets.address(nets.detector)
    assert nets.detector.can_connect(nets.address(nets.mirror), PORT)
    assert nets.mirror.can_connect(detector, PORT)
    assert nets.node1.can_connect(mirror, PORT)
    assert nets.mirror.can_connect(nets.address(nets.node2), PORT)
    assert nets.node1.can_connect(nets.address(nets.node2), PORT)
    assert not nets.node1.can_connect(detector, PORT)
    assert not nets.gateway.can_connect(detector, PORT)
    assert not nets.detector.can_connect(mirror, PORT)


def test_a_node_that_only_connects_outwards(two_networks: TwoNetworks, tmp_path: Path) -> None:
    need("firewall")
    nets = two_networks
    serve(nets.mirror, tmp_path)
    serve(nets.node1, tmp_path)
    node, mirror = nets.address(nets.node1), nets.address(nets.mirror, "eth1")
    assert nets.mirror.can_connect(node, PORT)
    nets.node1.outgoing_only()
    assert not nets.mirror.can_connect(node, PORT)
    assert not nets.node2.can_connect(node, PORT)
    assert nets.node1.can_connect(mirror, PORT)
    assert nets.node1.can_connect("127.0.0.1", PORT), "itself it still reaches"


def test_links_and_routes_go_and_come_back(two_networks: TwoNetworks, tmp_path: Path) -> None:
    nets = two_networks
    serve(nets.mirror, tmp_path)
    mirror = nets.address(nets.mirror, "eth1")
    nets.gateway.set_link("eth1", up=False)
    assert not nets.node1.can_connect(mirror, PORT)
    nets.gateway.set_link("eth1", up=True)
    assert nets.node1.can_connect(mirror, PORT, timeout_s=5)
    nets.route_through_gateway(False)
    assert not nets.node1.can_connect(mirror, PORT)
    nets.route_through_gateway(True)
    assert nets.node1.can_connect(mirror, PORT)


def test_lost_packets_and_limited_bandwidth(two_networks: TwoNetworks, tmp_path: Path) -> None:
    need("firewall")
    nets = two_networks
    serve(nets.mirror, tmp_path)
    mirror = nets.address(nets.mirror, "eth1")
    nets.node1.lose(percent=100)
    assert not nets.node1.can_connect(mirror, PORT)
    nets.node1.lose(percent=0)
    assert nets.node1.can_connect(mirror, PORT)
    nets.node1.shape("eth0", "tbf", "rate", "100mbit", "burst", "64kb", "latency", "50ms")
    assert "rate 100Mbit" in nets.node1.run("tc", "qdisc", "show", "dev", "eth0").stdout
    nets.node1.shape("eth0")
    assert "tbf" not in nets.node1.run("tc", "qdisc", "show", "dev", "eth0").stdout


def test_latency(two_networks: TwoNetworks, tmp_path: Path) -> None:
    need("netem")
    nets = two_networks
    serve(nets.mirror, tmp_path)
    nets.node1.shape("eth0", "netem", "delay", "400ms")
    mirror = nets.address(nets.mirror, "eth1")
    assert not nets.node1.can_connect(mirror, PORT, timeout_s=0.3)
    assert nets.node1.can_connect(mirror, PORT, timeout_s=5)


def test_this_machine_is_in_none_of_the_networks_and_names_differ(two_networks: TwoNetworks) -> None:
    own = subprocess.run(["ip", "-o", "-4", "addr"], capture_output=True, text=True, check=True).stdout
    assert TRANSIT not in own
    assert CLUSTER not in own
    names = [host.run("hostname").stdout.strip() for host in two_networks.hosts]
    assert names == ["detector", "mirror", "gateway", "node1", "node2"]
    assert socket.gethostname() not in names
    assert two_networks.detector.run("getent", "hosts", "node2").stdout.split() == [f"{CLUSTER}.2", "node2"]


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    need("netns")
    before = {path.name for path in NETNS.glob("*")}
    with TwoNetworks(tmp_path) as nets:
        daemon = nets.node1.start("sh", "-c", "setsid sleep 600 & wait", log=tmp_path / "log")
        assert len(nets.node1.pids()) >= 1
    daemon.wait(5)
    assert {path.name for path in NETNS.glob("*")} == before
    sleepers = subprocess.run(["pgrep", "-f", "^sleep 600$"], capture_output=True, text=True, check=False)
    assert not sleepers.stdout
