"""The link between the networks goes away for a while: nothing is lost, or what is lost is named exactly."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from networks.cluster import Cluster
from networks.separated import TwoNetworks
from networks.stream import DETECTOR_PORT, NOT_REACHABLE, Stream, until
from requirements import need

pytestmark = [pytest.mark.system, pytest.mark.netns, pytest.mark.timeout(240)]

ENOUGH = 300
RELAY_PORT = 31600
DOWN_S = 10.0
HALF_OPEN_S = 20.0
# Longer than any of these cuts: no rank is replaced on suspicion.
PATIENCE = ("deadlines.drain=60 s",)


def named(report: dict[str, Any]) -> set[int]:
    """All ids that the report names as lost."""
    ids: set[int] = set()
    for missing in report["missing"]:
        for part in missing["ids"].split(","):
            first, _, last = part.partition("-")
            ids |= set(range(int(first), int(last or first) + 1))
    return ids


@contextmanager
def mid_stream(stream: Stream, networks: TwoNetworks) -> Iterator[Callable[[], list[int]]]:
    """What is done here happens to a stream from which results come, and come again afterwards. Gives what reads
    the ids that have arrived at the beamline."""
    stream.wait_collected(1)
    reader = stream.read_results(networks.mirror)
    stream.wait_collected(ENOUGH)
    yield reader
    stream.wait_collected(stream.collected() + ENOUGH)


def down(networks: TwoNetworks) -> None:
    """No link between the networks for a while."""
    networks.gateway.set_link("eth1", up=False)
    time.sleep(DOWN_S)
    networks.gateway.set_link("eth1", up=True)


def assert_each_once(arrived: list[int]) -> None:
    """What was under way comes again after newer frames, so order is not asked for."""
    assert sorted(arrived) == list(range(min(arrived), min(arrived) + len(arrived)))


@pytest.mark.slow
def test_at_least_once_nothing_is_lost_when_the_link_is_down_for_ten_seconds(
    two_networks: TwoNetworks, cluster: Cluster, stream: Stream, tmp_path: Path
) -> None:
    site = cluster.write_site(tmp_path, beamline="eth0", cluster="eth1", more=NOT_REACHABLE)
    stream.start_run(site, *PATIENCE, delivery="at-least-once")
    with mid_stream(stream, two_networks) as reader:
        down(two_networks)
    stream.finish()
    assert_each_once(reader())


@pytest.mark.slow
def test_at_most_once_the_lost_ids_are_named_exactly(
    two_networks: TwoNetworks, cluster: Cluster, tmp_path: Path
) -> None:
    stream = Stream(two_networks, cluster, tmp_path)
    # The kernel holds some megabytes for each connection: 64 KiB a frame is more than that in ten seconds.
    stream.start_detector(pixels=256)
    site = cluster.write_site(tmp_path, beamline="eth0", cluster="eth1", more=NOT_REACHABLE)
    # Turns of 20 frames, so that the report has room for all ranges.
    few = ("pools.stats.server_queue=50", "pools.stats.distribution.updates=20", "allow_lost=1000000")
    stream.start_run(site, *PATIENCE, *few)
    with mid_stream(stream, two_networks) as reader:
        down(two_networks)
    stream.end_detector()
    report = stream.report()
    arrived = reader()
    # Not the first and the last that arrived: what the cut held back in a node comes behind newer frames.
    first, last = min(arrived), max(arrived)
    lost = set(range(first, last + 1)) - set(arrived)
    inside = {one for one in named(report) if first <= one <= last}
    assert lost, "a queue of 50 frames can't hold ten seconds of them"
    assert inside == lost
    assert report["frames"]["lost"] == report["frames"]["source"] - report["frames"]["collected"]


@pytest.mark.slow
def test_at_least_once_half_open_connections(
    two_networks: TwoNetworks, cluster: Cluster, stream: Stream, tmp_path: Path
) -> None:
    """Nothing that is sent to one node arrives for a while, and nobody is told."""
    need("firewall")
    site = cluster.write_site(tmp_path, beamline="eth0", cluster="eth1", more=NOT_REACHABLE)
    stream.start_run(site, *PATIENCE, delivery="at-least-once")
    with mid_stream(stream, two_networks) as reader:
        two_networks.node1.lose(percent=100)
        time.sleep(HALF_OPEN_S)
        two_networks.node1.lose(percent=0)
    stream.finish()
    assert_each_once(reader())


def test_a_standing_mirror_whose_connection_has_died_unnoticed_begins_again(
    two_networks: TwoNetworks, stream: Stream, tmp_path: Path
) -> None:
    """pvAccess itself finds out after 30 s."""
    need("firewall")
    listen = f"{two_networks.address(two_networks.mirror, 'eth1')}:{RELAY_PORT}"
    words = [
        "mirror",
        "--source",
        stream.channel,
        "--channel",
        f"{stream.prefix}:relayed",
        "--listen",
        listen,
    ]
    words += ["--source-server", stream.address, "--every", "0.5", "--json"]
    mirror = stream.start(two_networks.mirror, words, "relay.log")
    log = tmp_path / "relay.log"

    def received() -> int:
        counts = [json.loads(line)[0]["received"] for line in log.read_text().splitlines() if line[:1] == "["]
        return max(counts, default=0)

    until(lambda: received() > ENOUGH, 30, log.read_text)
    two_networks.mirror.deafen(DETECTOR_PORT)
    time.sleep(2)
    before = received()
    until(lambda: received() > before + ENOUGH, 20, log.read_text)
    assert mirror.poll() is None, "the same process, begun again"
    assert "beginning again" in log.read_text()
