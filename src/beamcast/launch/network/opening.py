"""What a run serves itself: its name servers, its PVs, and the RPC channel on which members speak with it."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from beamcast.launch.hardware import shares
from beamcast.launch.network.addresses import Sides, served_ports
from beamcast.launch.network.directory import Directory, PortLeases, find_sides, serve_pvs, serve_rpc
from beamcast.launch.plan import RunPlan
from beamcast.launch.run_pvs import RunPvs
from beamcast.members.join import Join, write_join
from beamcast.pva.control_pv import Take
from beamcast.pva.endpoint import Endpoint
from beamcast.pva.environment import user_settings
from beamcast.pva.messages import Answer, Request
from beamcast.pva.resolve import resolved
from beamcast.pva.rpc import RpcEndpoint
from beamcast.pva.udp_search import search_targets
from beamcast.security.secret import RunSecret

# A member that has no controller for this long ends itself.
CONTROLLER_SILENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Ground:
    """Where the run stands, before anything is started. `interchange_port`: the one that Parsl has to take, where it
    may not take any. `elsewhere`: who knows the channels of others that are read; `written_to`: who serves those into
    which pools write."""

    sides: Sides
    leases: PortLeases
    interchange_port: int | None
    elsewhere: dict[str, Endpoint]
    written_to: dict[str, Endpoint]


@dataclass(frozen=True, slots=True)
class Opened:
    """What is served."""

    names: Directory
    pvs: RunPvs


def find_ground(plan: RunPlan) -> Ground:
    """This host's addresses, and the port promised to Parsl. WorldError where an address or a port is missing, or a
    host name is not known."""
    network = plan.site.network
    sides, leases = find_sides(network), PortLeases(served_ports(network))
    promised = network.forwarder is not None and plan.site.executor == "parsl"
    elsewhere = _elsewhere(plan)
    for endpoint in elsewhere.values():
        resolved(endpoint)  # it is looked up again each time, but a wrong name is told at once
    port = leases.lease(sides.cluster).port if promised else None
    return Ground(sides, leases, port, elsewhere, _written_to(plan))


def open_network(
    stack: ExitStack,
    plan: RunPlan,
    run_dir: Path,
    ground: Ground,
    *,
    secret: RunSecret,
    handle: Callable[[Request], Answer],
    take: Callable[[str | None], Take],
) -> Opened:
    """Start all of it; what members need to find it is written into the run directory. The name servers are ended by
    `stack`; what pvaccess serves here is there until the process ends (`beamcast.pva.rpc.RpcEndpoint.start`).

    `handle` answers the members; `take` of a pool's name (None: the run) answers the writers of its control PV.
    WorldError where an address or a port is missing.
    """
    sides, leases = ground.sides, ground.leases
    names = stack.enter_context(Directory(sides, leases))
    join = _join(plan, names, ground.interchange_port)
    write_join(run_dir, join)
    name_server = str(names.endpoint)
    server, pvs_at = leases.serve(
        sides.beamline, lambda at: serve_pvs(at, name_server), lambda server: server.stop()
    )
    pvs = RunPvs(server, plan.prefix, [pool.name for pool in plan.pools], take=take)
    _, rpc_at = leases.serve(
        sides.cluster,
        lambda at: serve_rpc(at, name_server, RpcEndpoint(join.rpc_channel, secret=secret, handle=handle)),
        lambda served: served.give_up(),
    )
    names.serve_at({join.rpc_channel: rpc_at, **dict.fromkeys(pvs.channels, pvs_at), **ground.written_to})
    names.ask_at(ground.elsewhere)
    targets = search_targets(user_settings())
    names.seek(dict.fromkeys(_searched_for(plan), targets) if targets else {})
    return Opened(names, pvs)


def _join(plan: RunPlan, names: Directory, interchange_port: int | None) -> Join:
    network = plan.site.network
    ports, served = network.ports, served_ports(network)
    return Join(
        run=plan.run,
        prefix=plan.prefix,
        name_server=str(names.endpoint),
        far_name_server=str(names.far_endpoint),
        first_port=ports.first,
        last_port=ports.last,
        served_ports=(served.first, served.last),
        promised_ports=() if interchange_port is None else (interchange_port,),
        node_interfaces=network.nodes.interfaces,
        beamline_interfaces=network.beamline.interfaces,
        cluster_interfaces=network.cluster.interfaces,
        controller_silence_s=CONTROLLER_SILENCE_S,
        hardware=shares(plan.site.node, plan.pools),
    )


def _elsewhere(plan: RunPlan) -> dict[str, Endpoint]:
    """Who knows the channels of others that are read, where the workflow says so."""
    source = plan.workflow.source
    given = [(source.channel, source.protocol, source.address)]
    given += [(each.channel, each.protocol, each.address) for each in plan.workflow.metadata]
    return {
        channel: Endpoint.parse(address)
        for channel, protocol, address in given
        if address is not None and protocol == "pva"
    }


def _searched_for(plan: RunPlan) -> list[str]:
    """The channels of others that are found as the beamline's clients find them."""
    source = plan.workflow.source
    ours = source.simulate is not None or source.mode != "monitor"
    found = [] if ours or source.address or source.protocol != "pva" else [source.channel]
    theirs = (each for each in plan.workflow.metadata if not each.simulate and each.address is None)
    return found + [each.channel for each in theirs if each.protocol == "pva"]


def _written_to(plan: RunPlan) -> dict[str, Endpoint]:
    """The channels of others into which pools write."""
    forwards = (pool.forward for pool in plan.pools)
    return {each.channel: resolved(Endpoint.parse(each.address)) for each in forwards if each is not None}
