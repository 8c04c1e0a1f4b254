"""Runs whose nodes can't reach the detector: everything goes through the mirror's host."""

import sys
from pathlib import Path

import pytest
from networks.cluster import Cluster
from networks.separated import CLUSTER, TwoNetworks
from networks.stream import NOT_REACHABLE, Stream
from requirements import REPOSITORY, need

pytestmark = [pytest.mark.system, pytest.mark.netns, pytest.mark.timeout(150)]

ENOUGH = 600


@pytest.mark.parametrize("delivery", [pytest.param("at-most-once", marks=pytest.mark.slow), "at-least-once"])
def test_the_mirror_bridges_networks_without_a_route(
    two_networks: TwoNetworks, cluster: Cluster, stream: Stream, tmp_path: Path, delivery: str
) -> None:
    assert stream.can_get(two_networks.mirror, stream.channel, stream.address)
    assert not stream.can_get(two_networks.node1, stream.channel, stream.address, seconds=1)
    stream.start_run(cluster.write_site(tmp_path, beamline="eth0", cluster="eth1"), delivery=delivery)
    stream.wait_collected(ENOUGH)
    report = stream.finish()
    hosts = {rank["host"] for pool in report["pools"] for rank in pool["ranks"]}
    assert hosts == {"node1", "node2"}


@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])
def test_results_are_pushed_from_nodes_that_only_connect_outwards(
    two_networks: TwoNetworks, cluster: Cluster, stream: Stream, tmp_path: Path, delivery: str
) -> None:
    need("firewall")
    site = cluster.write_site(tmp_path, beamline="eth0", cluster="eth1", more=NOT_REACHABLE)
    for node in two_networks.nodes:
        node.outgoing_only(but_from=f"{CLUSTER}.0/24")
    stream.start_run(site, delivery=delivery)
    stream.wait_collected(ENOUGH // 2)
    refused_by = stream.serving_port(two_networks.node1)
    address = two_networks.address(two_networks.node1)
    assert two_networks.node2.can_connect(address, refused_by), "the cluster's own traffic goes on"
    assert not two_networks.mirror.can_connect(address, refused_by)
    assert stream.can_get(two_networks.detector, f"{stream.prefix}:result", stream.names_at_beamline())
    words = [
        sys.executable,
        "-m",
        "beamcast",
        "control",
        str(tmp_path / "run"),
        "get_stats",
        "--pool",
        "stats",
    ]
    said = two_networks.mirror.run(*words, environment={"PYTHONPATH": str(REPOSITORY / "src")})
    assert said.returncode == 0, said.stderr
    assert "stats/0" in said.stdout, "commands travel in the answers to heartbeats"
    assert "stats/1" in said.stdout
    stream.wait_collected(ENOUGH)
    stream.finish()
