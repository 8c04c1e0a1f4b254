"""Which pools may change their size, and where the ranks that come sit."""

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from beamcast.config.load import LoadedWorkflow
from beamcast.config.site import MpiStart, Site
from beamcast.config.workflow import Pool, Results, Source, Workflow
from beamcast.core.errors import UsageError
from beamcast.launch.plan import RunPlan
from beamcast.launch.scaling import check_scale, enlarged
from beamcast.launch.seating import more_seats, seating


def plan() -> RunPlan:
    workflow = Workflow(
        name="w",
        delivery="at-least-once",
        source=Source(channel="det"),
        pools=(
            Pool(name="work", role="consumer", input="source", ranks=3),
            Pool(name="collect", role="collector", input="work"),
        ),
        results=Results(pool="collect"),
    )
    return RunPlan(
        run="r",
        loaded=LoadedWorkflow(workflow=workflow, path=Path("w.toml"), base=Path()),
        site=Site(name="s"),
    )


def test_a_pool_that_reads_the_source_may_grow_and_shrink() -> None:
    check_scale(plan(), "work", 5)
    check_scale(plan(), "work", 1)
    assert enlarged(plan(), "work", 5).pool("work").ranks == 5
    assert enlarged(plan(), "work", 2).pool("work").ranks == 3, "numbers are not given away"


@pytest.mark.parametrize(
    ("pool", "ranks", "says"), [("wrok", 5, "no pool"), ("work", 0, "at least one"), ("collect", 2, "source")]
)
def test_others_may_not(pool: str, ranks: int, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_scale(plan(), pool, ranks)


def test_the_site_has_to_allow_it_and_each_delivery_does() -> None:
    one = plan()
    with pytest.raises(UsageError, match="one job"):
        check_scale(replace(one, site=structs.replace(one.site, start=MpiStart())), "work", 5)
    once = structs.replace(one.workflow, delivery="at-most-once")
    check_scale(replace(one, loaded=replace(one.loaded, workflow=once)), "work", 5)


def test_ranks_that_come_together_have_places_of_their_own() -> None:
    larger = enlarged(plan(), "work", 5)
    coming = [("work", 2), ("work", 3), ("work", 4)]
    seats = more_seats(larger, seating(plan()), coming)
    assert len(seats) == 6
    together = [(seat.node, seat.worker) for seat in seats if (seat.pool, seat.rank) in coming]
    assert len(set(together)) == 3
