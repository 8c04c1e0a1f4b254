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
from beamcast.launch.parsl_start import ParslStart
from beamcast.launch.plan import RunPlan
from beamcast.launch.seating import first_nodes
from beamcast.launch.start_script import start_script
from beamcast.pva.environment import server_environment
from beamcast.pva.interfaces import resolve_address

NAME_SERVER = "<name server>"
Tree = dict[str, Any]


def preview(plan: RunPlan, run_dir: Path) -> Tree:
    """The whole plan as a tree that JSON can hold."""
    cluster = _address(plan.site.network.cluster)
    by_parsl = plan.site.executor == "parsl"
    address = cluster or "<address of the cluster interface>"
    config = ParslStart(plan, run_dir, address=address).config() if by_parsl else None
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


def _faces(plan: RunPlan) -> dict[str, tuple[Face, str]]:
    """Which processes serve, and which side of the network each faces."""
    network = plan.site.network
    faces = {
        "name server": (network.cluster, "cluster"),
        "controller PVs": (network.beamline, "beamline"),
        "controller RPC": (network.cluster, "cluster"),
        "mirror": (network.cluster, "cluster"),
    }
    if plan.workflow.source.simulate is not None:
        faces["simulator"] = (network.beamline, "beamline")
    if plan.workflow.results is not None:
        faces["results"] = (network.beamline, "beamline")
    return {**faces, "rank": (network.nodes, "nodes")}


def _addresses(plan: RunPlan) -> list[Tree]:
    ports = plan.site.network.ports
    return [
        {
            "process": process,
            "faces": side,
            "interfaces": list(face.interfaces),
            "address": _shown_address(plan, process, face),
            "ports": f"{ports.first}-{ports.last}",
        }
        for process, (face, side) in _faces(plan).items()
    ]


def _shown_address(plan: RunPlan, process: str, face: Face) -> str:
    if process == "rank" and not isinstance(plan.site.provider, LocalProvider):
        return "<found on the node>"
    return _address(face) or "<none of them is on this host>"


def _environments(plan: RunPlan) -> dict[str, dict[str, str]]:
    """The EPICS variables of every kind of process; ports are leased when it starts."""
    ports = plan.site.network.ports
    searches = plan.workflow.source.simulate is None and plan.workflow.source.address is None
    environments: dict[str, dict[str, str]] = {}
    for row in _addresses(plan):
        if row["process"] == "name server":
            continue
        variables = server_environment(address=row["address"], port=0, name_servers=[NAME_SERVER])
        variables["EPICS_PVAS_SERVER_PORT"] = f"<free port in {ports.first}-{ports.last}>"
        if row["process"] == "mirror" and searches:
            variables["EPICS_PVA_NAME_SERVERS"] += " <and your own EPICS_PVA_* settings, to find the source>"
        environments[row["process"]] = variables
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
        text = "\n".join(path.read_text() for path in scripts)
        text = re.sub(r"beamcast\.\d+\.\d+", "beamcast.<time>", text)
        return re.sub(re.escape(folder), "<run directory>/parsl/000/submit_scripts", text)
