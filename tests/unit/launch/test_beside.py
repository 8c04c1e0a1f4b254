"""Which members run beside the controller: told by the workflow alone."""

from pathlib import Path
from typing import Any

import pytest

from beamcast.config.load import LoadedWorkflow
from beamcast.config.site import Network, NodesFace, Site
from beamcast.config.units import Bytes
from beamcast.config.workflow import Metadata, Mirror, Pool, Results, Simulation, Source, Workflow
from beamcast.launch.beside import Beside, members_beside
from beamcast.launch.plan import RunPlan
from beamcast.pva.messages import decode_dispatch_plan

RUN_DIR = Path("run")


def members(
    source: Source, *, reachable: bool = True, results: Results | None = None, **more: Any
) -> dict[str, Beside]:
    """What runs beside a controller, by name."""
    workflow = Workflow(
        name="w",
        source=source,
        pools=(
            Pool(name="work", role="consumer", input="source"),
            Pool(name="collect", role="collector", input="work"),
        ),
        results=results,
        **more,
    )
    loaded = LoadedWorkflow(workflow=workflow, path=Path("w.toml"), base=Path())
    site = Site(name="s", network=Network(nodes=NodesFace(reachable=reachable)))
    return {one.name: one for one in members_beside(RunPlan(run="r", loaded=loaded, site=site), RUN_DIR)}


def test_a_detector_needs_a_mirror_and_nothing_else() -> None:
    (mirror,) = members(Source(channel="det")).values()
    assert (mirror.name, mirror.module) == ("mirror", "mirror")
    assert "--search" in mirror.arguments
    assert "--search" not in members(Source(channel="det", address="10.0.0.1:5075"))["mirror"].arguments


def test_at_least_once_the_mirror_dispatches_and_is_told_what_is_final() -> None:
    found = members(Source(channel="det"), delivery="at-least-once", results=Results(pool="collect"))
    assert found["mirror"].module == "dispatcher.mirror"
    assert any(word.startswith("--dispatcher=") for word in found["results"].arguments)


def test_the_dispatcher_is_told_its_queue_in_bytes() -> None:
    mirror = Mirror(queue_bytes=Bytes(2 << 30))
    found = members(Source(channel="det"), delivery="at-least-once", mirror=mirror)
    (plan,) = [word for word in found["mirror"].arguments if word.startswith("--plan=")]
    assert decode_dispatch_plan(plan.removeprefix("--plan=").encode()).queue_bytes == 2 << 30


def test_a_simulated_source_is_ours() -> None:
    found = members(Source(channel="det", simulate=Simulation()))
    assert list(found) == ["simulator", "mirror"]
    assert "--search" not in found["mirror"].arguments


@pytest.mark.parametrize(("mode", "serves_rpc"), [("put", False), ("rpc", True)])
def test_a_source_that_writes_has_an_intake(mode: Any, serves_rpc: bool) -> None:
    found = members(Source(channel="det", mode=mode))
    assert list(found) == ["intake", "mirror"]
    assert any(word.startswith("--rpc=") for word in found["intake"].arguments) == serves_rpc


def test_metadata_that_others_serve_are_searched_for() -> None:
    ours = members(
        Source(channel="det", simulate=Simulation()),
        metadata=(Metadata(name="m", channel="m", simulate=True),),
    )
    assert "--search" not in ours["metadata"].arguments
    theirs = members(
        Source(channel="det", simulate=Simulation()), metadata=(Metadata(name="m", channel="m"),)
    )
    assert "--search" in theirs["metadata"].arguments


@pytest.mark.parametrize(
    ("reachable", "by", "module"),
    [(True, None, "results"), (True, "mirror", "mirror"), (False, None, "pushed")],
)
def test_results_come_back_as_site_and_workflow_say(reachable: bool, by: Any, module: str) -> None:
    found = members(Source(channel="det"), reachable=reachable, results=Results(pool="collect", by=by))
    assert found["results"].module == module
