"""The network plan as a table: who listens where, how each side reaches it, how many ports a firewall has to open."""

from pathlib import Path

import pytest

from beamcast.config.load import LoadedWorkflow
from beamcast.config.site import Face, Forwarder, Network, NodesFace, Ports, Site
from beamcast.config.workflow import Delivery, Metadata, Pool, Results, Source, Workflow
from beamcast.launch.network.addresses import Sides, ports_needed, reached_from, served_ports, services
from beamcast.launch.plan import RunPlan

PLAIN = Sides(beamline="10.1.0.10", cluster="10.2.0.10", reached="10.2.0.10")
FORWARDED = Sides(beamline="10.1.0.10", cluster="10.2.0.10", reached="10.3.0.254")
FORWARDER = Forwarder(kind="haproxy", host="10.3.0.254", ports=Ports(first=20000, last=20015))


def plan(
    *,
    delivery: Delivery = "at-most-once",
    reachable: bool = True,
    metadata: bool = False,
    results: bool = True,
    forwarder: Forwarder | None = None,
) -> RunPlan:
    workflow = Workflow(
        name="w",
        delivery=delivery,
        source=Source(channel="det", address="10.1.0.1:5075"),
        metadata=(Metadata(name="x", channel="x"),) if metadata else (),
        pools=(
            Pool(name="work", role="consumer", input="source", ranks=2),
            Pool(name="collect", role="collector", input="work"),
        ),
        results=Results(pool="collect") if results else None,
    )
    network = Network(
        beamline=Face(interfaces=("eth0",)),
        cluster=Face(interfaces=("eth1",)),
        nodes=NodesFace(interfaces=("hsn0",), reachable=reachable),
        forwarder=forwarder,
    )
    loaded = LoadedWorkflow(workflow=workflow, path=Path("w.toml"), base=Path())
    return RunPlan(run="r", loaded=loaded, site=Site(name="s", network=network))


def table(made: RunPlan, sides: Sides) -> dict[str, tuple[str | None, str | None]]:
    """From the beamline and from the nodes, by process."""
    rows = {service.process: reached_from(service, sides) for service in services(made)}
    return {process: (row["beamline"], row["nodes"]) for process, row in rows.items()}


@pytest.mark.parametrize(("sides", "seen"), [(PLAIN, "10.2.0.10"), (FORWARDED, "10.3.0.254")])
def test_nodes_reach_everything_at_one_address(sides: Sides, seen: str) -> None:
    rows = table(plan(), sides)
    assert rows["mirror"] == ("10.2.0.10", seen)
    assert rows["controller RPC"] == ("10.2.0.10", seen)
    assert rows["far name server"] == ("10.2.0.10", seen)
    assert rows["Parsl interchange"] == ("10.2.0.10", seen)


def test_what_is_for_the_beamline_is_not_for_nodes() -> None:
    rows = table(plan(), FORWARDED)
    for process in ("near name server", "controller PVs", "results"):
        assert rows[process] == ("10.1.0.10", None), process


@pytest.mark.parametrize(
    ("delivery", "reachable", "by"),
    [
        ("at-most-once", True, "monitor"),
        ("at-least-once", True, "monitor"),
        ("at-most-once", False, "push"),
        ("at-least-once", False, "push"),
    ],
)
def test_how_results_come(delivery: Delivery, reachable: bool, by: str) -> None:
    made = plan(delivery=delivery, reachable=reachable)
    assert made.results_by == by
    rows = table(made, PLAIN)
    assert ("results, pushed" in rows) == (by == "push")
    assert rows["rank"][0] == (None if by == "push" else "<the node>")


@pytest.mark.parametrize(
    ("made", "ports"),
    [
        (plan(results=False), 4),
        (plan(), 4),
        (plan(delivery="at-least-once"), 5),
        (plan(reachable=False), 5),
        (plan(delivery="at-least-once", reachable=False, metadata=True), 7),
    ],
)
def test_ports_that_nodes_have_to_reach(made: RunPlan, ports: int) -> None:
    assert ports_needed(made) == ports


def test_processes_beside_the_controller_lease_what_is_forwarded() -> None:
    assert served_ports(plan().site.network) == Ports(first=20000, last=29999)
    assert served_ports(plan(forwarder=FORWARDER).site.network) == Ports(first=20000, last=20015)


@pytest.mark.parametrize(
    ("sides", "two"),
    [
        (Sides(beamline="127.0.0.1", cluster="127.0.0.1", reached="127.0.0.1"), False),
        (PLAIN, True),
        (Sides(beamline="127.0.0.1", cluster="127.0.0.1", reached="10.3.0.254"), True),
    ],
)
def test_each_side_has_a_name_server_where_addresses_differ(sides: Sides, two: bool) -> None:
    assert sides.two_faced is two


def test_only_the_cluster_face_is_seen_elsewhere() -> None:
    assert FORWARDED.seen_by_nodes("10.2.0.10") == "10.3.0.254"
    assert FORWARDED.seen_by_nodes("10.9.0.7") == "10.9.0.7", "a node is reached as it is"
