"""The network plan of a run: who listens where, how each side reaches it, from which ports. Pure; `plan` prints it.

The choice: everything that nodes have to reach stands on one address, with leased ports from one range, and is found
through one name server. So a firewall needs one rule and a forwarder one range of equal ports, whatever the run is.

    beamline side                 where the controller runs                    nodes
    clients ── near name server ──┤ beamline face │ cluster face ├── far name server ── ranks

Each side asks its own name server. The far one answers with the address at which the nodes reach the cluster face,
which is a forwarder's where there is one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from beamcast.config.site import Network, Ports
from beamcast.launch.plan import RunPlan

Side = Literal["beamline", "cluster", "nodes"]


@dataclass(frozen=True, slots=True)
class Service:
    """What one process listens with. `ports`: how many; `used_by`: who opens connections to it; `asks`: which name
    server it asks itself; None: it is no pvAccess client."""

    process: str
    side: Side
    ports: int
    used_by: tuple[str, ...]
    asks: Literal["near", "far"] | None = "near"


@dataclass(frozen=True, slots=True)
class Sides:
    """The addresses of the host on which the controller runs. `reached` is `cluster` as the nodes see it."""

    beamline: str
    cluster: str
    reached: str

    @property
    def two_faced(self) -> bool:
        """Whether the two sides need a name server each."""
        return self.beamline != self.cluster or self.reached != self.cluster

    def seen_by_nodes(self, host: str) -> str:
        """A host's address as nodes have to use it."""
        return self.reached if host == self.cluster else host


def served_ports(network: Network) -> Ports:
    """From which ports the processes beside the controller lease theirs: those that the forwarder passes on."""
    return network.forwarder.ports if network.forwarder is not None else network.ports


def services(plan: RunPlan) -> tuple[Service, ...]:
    """Everything that listens in a run."""
    return tuple(_services(plan))


def _services(plan: RunPlan) -> Iterator[Service]:
    workflow, network = plan.workflow, plan.site.network
    yield Service(
        "near name server", "beamline", 1, ("beamline clients", "members beside the controller"), None
    )
    yield Service("far name server", "cluster", 1, ("ranks",), None)
    yield Service("controller PVs", "beamline", 1, ("beamline clients",))
    yield Service("controller RPC", "cluster", 1, ("all members",))
    if plan.site.executor == "parsl":
        yield Service("Parsl interchange", "cluster", 1, ("Parsl's workers",), None)
    if workflow.source.simulate is not None:
        yield Service("simulator", "beamline", 1, ("mirror",))
    if workflow.source.mode != "monitor":
        yield Service("intake", "beamline", 2 if workflow.source.mode == "rpc" else 1, ("detector", "mirror"))
    # Under at-least-once delivery ranks report to it.
    yield Service("mirror", "cluster", 2 if plan.dispatches else 1, ("ranks",))
    if workflow.metadata:
        yield Service("metadata", "cluster", 1, ("ranks",))
    if workflow.results is not None:
        yield Service("results", "beamline", 1, ("beamline clients",))
        if plan.results_by == "push":
            yield Service("results, pushed", "cluster", 1, ("ranks",))
    monitors = workflow.results is not None and plan.results_by != "push"
    readers = ("ranks", "results") if monitors else ("ranks",)
    yield Service("rank", "nodes", 1, readers if network.nodes.reachable else ("ranks",), "far")


def reached_from(service: Service, sides: Sides) -> dict[str, str | None]:
    """At which address each side reaches a service; None where it has no business there, or can't."""
    match service.side:
        case "beamline":
            return {"beamline": sides.beamline, "nodes": None}
        case "cluster":
            return {"beamline": sides.cluster, "nodes": sides.reached}
        case "nodes":
            open_to_us = "results" in service.used_by
            return {"beamline": "<the node>" if open_to_us else None, "nodes": "<the node>"}


def ports_needed(plan: RunPlan) -> int:
    """How many ports nodes have to reach on the controller's host."""
    return sum(service.ports for service in services(plan) if service.side == "cluster")
