"""What `beamcast plan` shows, computed without starting anything or writing a file into the run directory."""

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from beamcast.config.site import Face, LocalProvider
from beamcast.core.errors import WorldError
from beamcast.core.place import Place
from beamcast.launch.hardware import expected_share
from beamcast.launch.network.addresses import Service, Sides, reached_from, served_ports, services
from beamcast.launch.plan import RunPlan
from beamcast.launch.seating import first_nodes
from beamcast.launch.start.parsl_start import ParslStart
from beamcast.launch.start.start_script import start_script
from beamcast.pva.environment import server_environment
from beamcast.pva.interfaces import resolve_address

NAME_SERVER = "<name server>"
NOT_HERE = "<not on this host>"
Tree = dict[str, Any]


def preview(plan: RunPlan, run_dir: Path) -> Tree:
    """The whole plan as a tree that JSON can hold."""
    sides = _sides(plan)
    by_parsl = plan.site.executor == "parsl"
    config = (
        ParslStart(plan, run_dir, address=sides.cluster, reached=sides.reached).config() if by_parsl else None
    )
    return {
        "run": plan.run,
        "run_dir": str(run_dir),
        "delivery": plan.workflow.delivery,
        "source": plan.source_channel,
        "mirror": plan.mirror_channel,
        "results": plan.results(),
        "ranks": [row for pool in plan.pools for row in _ranks(plan, pool.name)],
        "addresses": _addresses(plan),
        "environment": _environments(plan),
        "executor": plan.site.executor,
        "parsl": repr(config) if by_parsl else None,
        "batch_script": batch_script(plan, config)
        if by_parsl
        else start_script(plan, run_dir, python=sys.executable),
    }


def _ranks(plan: RunPlan, pool_name: str) -> list[Tree]:
    pool = plan.pool(pool_name)
    return [_rank(plan, pool_name, place) for place in plan.places(pool)]


def _rank(plan: RunPlan, pool_name: str, place: Place) -> Tree:
    pool = plan.pool(pool_name)
    channels = plan.channels(pool_name, place.rank)
    slot = plan.slot(pool, place)
    inputs = plan.inputs(pool, place, [0] * len(plan.producers(pool)))
    share = expected_share(plan.site.node, pool, place)
    shared = {"group": slot.group, "set": slot.set, "turn": slot.turn} if pool.role == "consumer" else {}
    return {
        "pool": pool_name,
        "role": pool.role,
        "rank": place.rank,
        "node": f"node{first_nodes(plan)[pool_name] + place.node_index}",
        "local_rank": place.local_rank,
        "gpu": share.gpu_name,
        "cpus": share.cpus,
        **shared,
        "inputs": [{"channel": one.channel, "request": one.request} for one in inputs],
        "output": channels.output,
        "status": channels.status,
        "control": channels.control,
    }


def _address(face: Face) -> str | None:
    try:
        return resolve_address(face.interfaces)
    except WorldError:
        return None


def _sides(plan: RunPlan) -> Sides:
    network = plan.site.network
    cluster = _address(network.cluster) or NOT_HERE
    reached = network.forwarder.host if network.forwarder is not None else cluster
    return Sides(beamline=_address(network.beamline) or NOT_HERE, cluster=cluster, reached=reached)


def _addresses(plan: RunPlan) -> list[Tree]:
    """Every process that listens: on which address, with how many ports from which range, and how each side reaches
    it."""
    sides = _sides(plan)
    rows = [_service(plan, each, sides) for each in services(plan)]
    if sides.two_faced:
        return rows
    # One name server is enough where both sides see the same addresses.
    near, far, *others = rows
    return [{**far, "process": "name server", "used by": [*near["used by"], *far["used by"]]}, *others]


def _service(plan: RunPlan, service: Service, sides: Sides) -> Tree:
    network = plan.site.network
    face = {"beamline": network.beamline, "cluster": network.cluster, "nodes": network.nodes}[service.side]
    address = {"beamline": sides.beamline, "cluster": sides.cluster}.get(service.side, _node_address(plan))
    ports = network.ports if service.side == "nodes" else served_ports(network)
    reached = reached_from(service, sides)
    return {
        "process": service.process,
        "faces": service.side,
        "interfaces": list(face.interfaces),
        "address": address,
        "ports": f"{service.ports} of {ports.first}-{ports.last}",
        "from beamline": reached["beamline"] or "",
        "from nodes": reached["nodes"] or "",
        "used by": list(service.used_by),
    }


def _node_address(plan: RunPlan) -> str:
    if not isinstance(plan.site.provider, LocalProvider):
        return "<found on the node>"
    return _address(plan.site.network.nodes) or NOT_HERE


def _environments(plan: RunPlan) -> dict[str, dict[str, str]]:
    """The EPICS variables of every kind of process that speaks pvAccess; ports are leased when it starts."""
    searches = plan.workflow.source.simulate is None and plan.workflow.source.address is None
    rows = {row["process"]: row for row in _addresses(plan)}
    environments: dict[str, dict[str, str]] = {}
    for service in services(plan):
        if service.asks is None:
            continue
        row = rows[service.process]
        name_server = NAME_SERVER if _sides(plan).two_faced is False else f"<{service.asks} name server>"
        variables = server_environment(address=row["address"], port=0, name_servers=[name_server])
        variables["EPICS_PVAS_SERVER_PORT"] = f"<free port: {row['ports']}>"
        if service.process == "mirror" and searches:
            variables["EPICS_PVA_NAME_SERVERS"] += " <and your own EPICS_PVA_* settings, to find the source>"
        environments[service.process] = variables
    return environments


def batch_script(plan: RunPlan, config: Any) -> str | None:
    """The script that Parsl's provider would submit; None where nothing is submitted.

    The provider writes it itself, into a folder that is removed again, with a scheduler that takes everything and
    does nothing.
    """
    if isinstance(plan.site.provider, LocalProvider):
        return None
    provider = config.executors[0].provider
    with tempfile.TemporaryDirectory(prefix="beamcast-plan-") as folder:
        provider.script_dir = folder
        provider.execute_wait = lambda command, *_: (0, "Submitted batch job 0\n", "")
        provider.submit("process_worker_pool.py <as Parsl fills it in at the start>", 1, "beamcast")
        scripts = [path for path in Path(folder).iterdir() if path.suffix not in (".stdout", ".stderr")]
        text = "\n".join(path.read_text(encoding="utf-8") for path in scripts)
        text = re.sub(r"beamcast\.\d+\.\d+", "beamcast.<time>", text)
        return re.sub(re.escape(folder), "<run directory>/parsl/000/submit_scripts", text)
