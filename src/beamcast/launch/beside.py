"""Which members run beside the controller, at the beamline, and with which arguments. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from beamcast.config.units import enc_hook
from beamcast.launch.plan import RunPlan
from beamcast.pva.messages import encode_dispatch_plan, encode_metadata_plan


@dataclass(frozen=True, slots=True)
class Beside:
    """Member `name` is `beamcast.members.<module>`, started with these arguments."""

    name: str
    module: str
    arguments: tuple[str, ...]


def members_beside(plan: RunPlan, run_dir: Path) -> Iterator[Beside]:
    """All of them, in the order in which they are to be started."""
    source = plan.workflow.source
    if source.simulate is not None:
        yield _simulator(plan)
    if source.mode != "monitor":
        yield _intake(plan)
    if plan.workflow.metadata:
        yield _metadata(plan)
    yield _dispatching(plan, run_dir) if plan.dispatches else _mirror(plan)
    if plan.workflow.results is not None:
        yield _results(plan)


def _simulator(plan: RunPlan) -> Beside:
    source = plan.workflow.source
    simulation = msgspec.json.encode(source.simulate, enc_hook=enc_hook).decode()
    simulated = (f"--metadata={each.channel}" for each in plan.workflow.metadata if each.simulate)
    return Beside(
        "simulator",
        "simulator",
        (f"--channel={source.channel}", f"--simulation={simulation}", f"--base={plan.base}", *simulated),
    )


def _intake(plan: RunPlan) -> Beside:
    source = plan.workflow.source
    rpc = [f"--rpc={source.channel}"] if source.mode == "rpc" else []
    fields = [f"--fields={msgspec.json.encode(source.fields).decode()}"] if source.fields else []
    return Beside("intake", "intake", (f"--record={plan.frames_channel}", *rpc, *fields))


def _metadata(plan: RunPlan) -> Beside:
    elsewhere = any(
        each.protocol == "pva" and not each.simulate and each.address is None
        for each in plan.workflow.metadata
    )
    search = ["--search"] if elsewhere else _search(plan)
    return Beside("metadata", "metadata", (f"--plan={encode_metadata_plan(plan.metadata_plan())}", *search))


def _dispatching(plan: RunPlan, run_dir: Path) -> Beside:
    return Beside(
        "mirror",
        "dispatcher.mirror",
        (f"--plan={encode_dispatch_plan(plan.dispatch_plan(run_dir))}", *_search(plan)),
    )


def _mirror(plan: RunPlan) -> Beside:
    source = plan.workflow.source
    arguments = [
        "--kind=mirror",
        f"--channel={plan.mirror_channel}",
        f"--source={plan.frames_channel}",
        f"--provider={source.protocol}",
        f"--id-field={source.id_field}",
        f"--queue={plan.workflow.mirror.queue}",
        f"--appear-timeout={float(source.appear_timeout)}",
    ]
    watch = ["--watch-source"] if plan.mirror_watches_source else []
    queue_bytes = plan.workflow.mirror.queue_bytes
    in_bytes = [f"--queue-bytes={int(queue_bytes)}"] if queue_bytes is not None else []
    return Beside("mirror", "mirror", (*arguments, *in_bytes, *_search(plan), *watch))


def _search(plan: RunPlan) -> list[str]:
    """The source is neither ours nor at a known address: it is found as the beamline's clients find it."""
    source = plan.workflow.source
    ours = source.simulate is not None or source.mode != "monitor"
    return [] if ours or source.address is not None else ["--search"]


def _results(plan: RunPlan) -> Beside:
    """The result PVs re-serve the last pool's output; they wait for the order to look for it, or for its pushes."""
    results = plan.workflow.results
    assert results is not None
    ((output, channel),) = plan.results().items()
    told = [f"--dispatcher={plan.dispatcher}"] if plan.results_retire(results.pool) else []
    if plan.results_by == "push":
        return Beside("results", "pushed", (f"--channel={channel}", f"--service={plan.push_channel}", *told))
    common = [
        f"--channel={channel}",
        f"--queue={plan.workflow.mirror.queue}",
        *(f"--id-field={field}" for field in plan.result_id_fields()),
        f"--appear-timeout={float(plan.workflow.source.appear_timeout)}",
    ]
    if plan.results_by == "monitor":
        epochs = [] if plan.dispatches else ["--count-epochs"]
        return Beside("results", "results", (*common, *epochs, *told))
    return Beside("results", "mirror", ("--kind=results", f"--source={output}", *common))
