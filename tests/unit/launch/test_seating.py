"""Which rank sits where: every rank has one seat, no two share one, pools keep apart where there is room."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.config.load import LoadedWorkflow
from beamcast.config.site import Allocation, LocalProvider, Provider, Site, SlurmProvider
from beamcast.config.workflow import Pool, Simulation, Source, Workflow
from beamcast.core.errors import WorldError
from beamcast.launch.plan import RunPlan
from beamcast.launch.seating import allocation_nodes, first_nodes, seating, workers_per_node
from beamcast.members.host.seat import node_number, read_seats, taken_by, write_seats


def plan(*ranks: int, nodes: int, per_node: int | None = None, provider: Provider | None = None) -> RunPlan:
    names = [f"pool{index}" for index in range(len(ranks))]
    pools = tuple(
        Pool(name=name, role="consumer", input=before, ranks=count)
        for name, before, count in zip(names, ["source", *names], ranks, strict=False)
    )
    workflow = Workflow(name="w", source=Source(channel="x", simulate=Simulation(frames=1)), pools=pools)
    allocation = Allocation(nodes=nodes, ranks_per_node=per_node)
    site = Site(name="s", provider=provider or SlurmProvider(), allocation=allocation)
    return RunPlan(
        run="r", loaded=LoadedWorkflow(workflow=workflow, path=Path("w.toml"), base=Path()), site=site
    )


def test_two_by_two_consumers_and_a_collector_on_the_third_node() -> None:
    seats = seating(plan(4, 1, nodes=3, per_node=2))
    assert [(seat.node, seat.worker, seat.pool, seat.rank) for seat in seats] == [
        (0, 0, "pool0", 0),
        (0, 1, "pool0", 1),
        (1, 0, "pool0", 2),
        (1, 1, "pool0", 3),
        (2, 0, "pool1", 0),
    ]
    assert workers_per_node(seats) == 2


def test_pools_share_nodes_when_there_are_too_few() -> None:
    small = plan(4, 2, nodes=2, per_node=2)
    assert first_nodes(small) == {"pool0": 0, "pool1": 0}
    assert [(seat.node, seat.worker) for seat in seating(small)] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
        (0, 2),
        (0, 3),
    ]
    assert workers_per_node(seating(small)) == 4


def test_without_a_scheduler_everything_sits_on_this_machine() -> None:
    local = plan(3, 1, nodes=2, provider=LocalProvider())
    assert allocation_nodes(local) == 1
    assert [(seat.node, seat.worker) for seat in seating(local)] == [(0, 0), (0, 1), (0, 2), (0, 3)]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 16))
def test_every_rank_has_one_seat_and_no_two_share_one(ranks: list[int], nodes: int) -> None:
    seats = seating(plan(*ranks, nodes=nodes))
    assert len({(seat.node, seat.worker) for seat in seats}) == len(seats) == sum(ranks)
    assert len({(seat.pool, seat.rank) for seat in seats}) == len(seats)
    assert max(seat.node for seat in seats) < nodes
    for node in {seat.node for seat in seats}:
        workers = sorted(seat.worker for seat in seats if seat.node == node)
        assert workers == list(range(len(workers)))


def test_seats_written_are_seats_read(tmp_path: Path) -> None:
    seats = seating(plan(4, 1, nodes=3, per_node=2))
    write_seats(tmp_path, seats)
    assert [read_seats(tmp_path, node) for node in range(3)] == [
        list(seats[:2]),
        list(seats[2:4]),
        [seats[4]],
    ]
    assert read_seats(tmp_path, 3) == []
    assert taken_by(tmp_path, 0) is None


@pytest.mark.parametrize(
    ("environment", "number"),
    [
        ({"SLURM_NODEID": "2", "PMI_RANK": "0"}, 2),
        ({"PALS_RANKID": "1"}, 1),
        ({"SLURM_NODEID": "7", "PMI_RANK": "1"}, 1),  # a number outside the allocation is somebody else's
    ],
)
def test_a_node_knows_its_number_from_the_launcher(environment: dict[str, str], number: int) -> None:
    assert node_number(environment, nodes=3) == number


def test_the_only_node_needs_no_number_and_others_do() -> None:
    assert node_number({}, nodes=1) == 0
    with pytest.raises(WorldError, match="can't tell which of 2 nodes") as caught:
        node_number({"SLURM_NODEID": "x"}, nodes=2)
    assert "PMI_RANK" in str(caught.value.hint)
