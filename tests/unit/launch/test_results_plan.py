"""Who says that a result is final, and what the result server reads."""

from pathlib import Path

import pytest

from beamcast.config.load import LoadedWorkflow
from beamcast.config.site import Site
from beamcast.config.workflow import Delivery, Pool, Results, Source, Workflow
from beamcast.launch.plan import RunPlan


def plan(*, delivery: Delivery = "at-least-once", result: str | None = "collect") -> RunPlan:
    workflow = Workflow(
        name="w",
        delivery=delivery,
        source=Source(channel="det"),
        pools=(
            Pool(name="work", role="consumer", input="source", ranks=2),
            Pool(name="collect", role="collector", input="work"),
        ),
        results=Results(pool=result) if result is not None else None,
    )
    return RunPlan(
        run="r",
        loaded=LoadedWorkflow(workflow=workflow, path=Path("w.toml"), base=Path()),
        site=Site(name="s"),
    )


def test_the_result_server_says_it_where_there_is_one() -> None:
    assert plan().results_retire("collect")
    assert not plan().retires("collect")


def test_without_results_the_last_collector_says_it() -> None:
    assert not plan(result=None).results_retire("collect")
    assert plan(result=None).retires("collect")


@pytest.mark.parametrize("pool", ["work", "collect"])
def test_at_most_once_nobody_has_to(pool: str) -> None:
    assert not plan(delivery="at-most-once").results_retire(pool)
    assert not plan(delivery="at-most-once").retires(pool)


def test_a_result_that_others_read_too_is_final_at_the_end_of_their_way() -> None:
    assert not plan(result="work").results_retire("work")
    assert plan(result="work").retires("collect")


def test_what_a_later_pool_drops_is_final_for_the_branch() -> None:
    assert plan().ends_frames_of("collect") == "", "as the result server says it of the others"
    assert plan(result=None).ends_frames_of("collect") == "collect"
    assert plan().ends_frames_of("work") is None, "its acks say so"
    assert plan(delivery="at-most-once").ends_frames_of("collect") is None
