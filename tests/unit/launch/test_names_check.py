"""C1: what `plan` accepts, `run` can do. Names of channels."""

from pathlib import Path

import pytest

from beamcast.config.load import LoadedWorkflow
from beamcast.config.site import Site
from beamcast.config.workflow import Metadata, Mirror, Pool, Results, Simulation, Source, Workflow
from beamcast.core.errors import UsageError
from beamcast.launch.names_check import LONGEST_BYTES, check_names
from beamcast.launch.plan import RunPlan


def plan(*, prefix: str = "p", channel: str = "det", **more: object) -> RunPlan:
    workflow = Workflow(
        name="w",
        prefix=prefix,
        source=Source(channel=channel, simulate=Simulation()),
        pools=(
            Pool(name="work", role="consumer", input="source", ranks=2),
            Pool(name="collect", role="collector", input="work"),
        ),
        **more,  # type: ignore[arg-type]
    )
    loaded = LoadedWorkflow(workflow=workflow, path=Path("w.toml"), base=Path())
    return RunPlan(run="r", loaded=loaded, site=Site(name="s"))


def test_names_of_their_own_are_good() -> None:
    check_names(plan(results=Results(pool="collect"), mirror=Mirror(channel="p:somewhere")))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            plan(channel="p:work:0:output"),
            "source.channel is 'p:work:0:output', and so is a PV of rank work/0",
        ),
        (plan(channel="p:mirror"), "the mirror's channel is 'p:mirror', and so is source.channel"),
        (
            plan(results=Results(pool="collect", channel="p:state")),
            "the result's channel is 'p:state', and so is the run's PV state",
        ),
        (
            plan(metadata=(Metadata(name="m", channel="det", match="previous", simulate=True),)),
            r"metadata\[0\].channel is 'det', and so is source.channel",
        ),
        (
            plan(prefix="ä" * 120),
            "would have 2[56][0-9] bytes, and a search carries 248: äää.*shorter prefix",
        ),
        (plan(channel="ä" * 200), "would have 400 bytes"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_names_that_no_run_can_serve_are_refused(made: RunPlan, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_names(made)


def test_the_longest_name_is_one_that_a_search_can_carry() -> None:
    from beamcast.pva.search import search_request

    search_request("x" * LONGEST_BYTES + ":1000")
