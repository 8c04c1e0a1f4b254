"""GPUs and CPUs of the ranks of a node, up to layouts of 512 nodes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.core.hardware import Share, format_cpus, parse_cpus, share_of
from beamcast.core.place import assign, spread

GPUS = ("0", "1", "2", "3")
SETS = ("24-31", "16-23", "8-15", "0-7")


@pytest.mark.parametrize(
    ("ranks", "gpus"),
    [
        (1, [0]),
        (2, [0, 1]),
        (3, [0, 1, 2]),
        (4, [0, 1, 2, 3]),
        (8, [0, 0, 1, 1, 2, 2, 3, 3]),
        (6, [0, 0, 1, 2, 2, 3]),
    ],
)
def test_one_gpu_each_and_then_neighbours_share(ranks: int, gpus: list[int]) -> None:
    shares = [share_of(rank, ranks, gpus=GPUS, cpu_sets=SETS) for rank in range(ranks)]
    assert shares == [Share(gpu=gpu, gpu_name=GPUS[gpu], cpus=SETS[gpu]) for gpu in gpus]


def test_without_gpus_each_local_rank_has_its_cpus() -> None:
    assert [share_of(rank, 2, gpus=(), cpu_sets=SETS).cpus for rank in range(2)] == ["24-31", "16-23"]
    assert share_of(7, 8, gpus=(), cpu_sets=SETS) == Share(cpus="0-7")
    assert share_of(0, 1, gpus=(), cpu_sets=()) == Share()


def test_names_of_tiles_are_kept() -> None:
    tiles = tuple(f"{card}.{tile}" for card in range(6) for tile in range(2))
    assert [share_of(rank, 12, gpus=tiles, cpu_sets=()).gpu_name for rank in range(12)] == list(tiles)


def test_a_set_for_each_gpu_or_none() -> None:
    with pytest.raises(ValueError, match="1 CPU sets for 4 GPUs"):
        share_of(0, 1, gpus=GPUS, cpu_sets=("0-7",))
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        share_of(2, 2, gpus=GPUS, cpu_sets=())


@given(st.frozensets(st.integers(0, 300), min_size=1))
def test_lists_of_cpus_read_back(cpus: frozenset[int]) -> None:
    assert parse_cpus(format_cpus(cpus)) == cpus


@pytest.mark.parametrize("text", ["", "a", "7-3", "0-", "-3", "0-99999999999", "1,,2"])
def test_no_list_of_cpus(text: str) -> None:
    with pytest.raises(ValueError, match="is no CPU"):
        parse_cpus(text)


@pytest.mark.parametrize("per_node", [1, 2, 3, 4, 8])
def test_512_nodes(per_node: int) -> None:
    """Every GPU of every node gets a turn, no two sets are one, and each rank sits where its number says."""
    nodes = [f"x{number:04d}" for number in range(512)]
    places = spread(512 * per_node, nodes, per_node)
    assert [(place.node_index, place.local_rank) for place in places] == [
        divmod(rank, per_node) for rank in range(len(places))
    ]
    from dataclasses import replace

    turns = []
    for place in places:
        share = share_of(place.local_rank, place.local_size, gpus=GPUS, cpu_sets=SETS)
        slot = assign("per-gpu", replace(place, gpu=share.gpu), channel="c", pool="p", trigger="uniqueId")
        turns.append(slot.turn)
    assert len(set(turns)) == 512 * min(per_node, 4)
    assert turns == sorted(turns)
