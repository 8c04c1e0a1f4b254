"""Places, slots and sets."""

import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.core.place import Place, Policy, assign, group_id, set_members, spread


def nodes(count: int) -> list[str]:
    return [f"node{index:04}" for index in range(count)]


def with_gpus(places: tuple[Place, ...], gpus: int) -> list[Place]:
    return [replace(place, gpu=place.local_rank % gpus) for place in places]


clusters = st.builds(
    lambda count, per_node: spread(count * per_node, nodes(count)), st.integers(1, 40), st.integers(1, 12)
)
policies = st.sampled_from(["each", "per-node", "sets", "all", "per-gpu"])


@given(st.integers(1, 300), st.integers(1, 40))
def test_spread_is_even_blocks(ranks: int, count: int) -> None:
    places = spread(ranks, nodes(count))
    sizes = Counter(place.node for place in places)
    assert [place.rank for place in places] == list(range(ranks))
    assert [place.node_index for place in places] == sorted(place.node_index for place in places)
    assert max(sizes.values()) - min(sizes.values()) <= 1
    assert len(sizes) == min(ranks, count) == places[0].nodes
    assert all(place.local_size == sizes[place.node] for place in places)


@given(st.integers(1, 300), st.integers(1, 16))
def test_spread_fills_nodes_in_order(ranks: int, per_node: int) -> None:
    places = spread(ranks, nodes(300), per_node)
    assert all(place.node_index == place.rank // per_node for place in places)
    assert all(place.local_rank == place.rank % per_node for place in places)


@pytest.mark.parametrize(
    ("ranks", "names", "per_node"),
    [(0, ["a"], None), (5, ["a", "b"], 2), (1, [], None), (2, ["a", "a"], None)],
)
def test_spread_refuses_what_does_not_fit(ranks: int, names: list[str], per_node: int | None) -> None:
    with pytest.raises(ValueError, match="ranks"):
        spread(ranks, names, per_node)


@given(clusters, policies, st.integers(1, 8), st.data())
def test_every_rank_is_in_exactly_one_set(
    places: tuple[Place, ...], policy: Policy, gpus: int, data: st.DataObject
) -> None:
    sets = data.draw(st.integers(1, len(places))) if policy == "sets" else None
    located = with_gpus(places, gpus)
    members = set_members(policy, located, sets)
    assert sorted(rank for ranks in members for rank in ranks) == list(range(len(places)))
    if sets is not None:
        assert len(members) == sets
        assert max(map(len, members)) - min(map(len, members)) <= 1


@given(clusters, policies, st.integers(1, 8), st.data())
def test_ranks_share_a_slot_exactly_where_they_share_a_set(
    places: tuple[Place, ...], policy: Policy, gpus: int, data: st.DataObject
) -> None:
    sets = data.draw(st.integers(1, len(places))) if policy == "sets" else None
    located = with_gpus(places, gpus)
    slots = [assign(policy, place, channel="c", pool="p", trigger="uniqueId", sets=sets) for place in located]
    by_set: dict[tuple[int, str], list[int]] = {}
    for rank, slot in enumerate(slots):
        by_set.setdefault((slot.turn, slot.set), []).append(rank)
    assert tuple(tuple(by_set[each]) for each in sorted(by_set)) == set_members(policy, located, sets)
    assert {slot.group for slot in slots} == {group_id("c", "p")}


def test_a_large_allocation() -> None:
    places = spread(512 * 8, nodes(512), 8)
    assert set_members("each", places) == tuple((rank,) for rank in range(4096))
    assert set_members("all", places) == (tuple(range(4096)),)
    assert set_members("per-node", places)[511] == tuple(range(4088, 4096))
    assert {len(ranks) for ranks in set_members("sets", places, 1000)} == {4, 5}
    gpus = set_members("per-gpu", with_gpus(places, 4))
    assert len(gpus) == 2048
    assert gpus[5] == (9, 13)


def test_turns_of_gpus_are_positions_where_the_number_of_sets_is_known() -> None:
    located = with_gpus(spread(24, nodes(3), 8), 4)
    turns = [assign("per-gpu", place, channel="c", pool="p", trigger="t", sets=12).turn for place in located]
    assert sorted(set(turns)) == list(range(12))


def test_the_request_is_what_pvapy_builds() -> None:
    place = spread(6, nodes(2))[4]
    slot = assign("each", place, channel="bl:det:Pva1:Image", pool="recon", trigger="uniqueId", updates=3)
    assert slot.distributor_request() == (
        f"pydistributor=group:{group_id('bl:det:Pva1:Image', 'recon')};set:set4;trigger:uniqueId;updates:3"
    )


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_group_ids_are_safe_and_unique(channel: str, pool: str, channel2: str, pool2: str) -> None:
    group = group_id(channel, pool)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", group)
    assert (group == group_id(channel2, pool2)) == ((channel, pool) == (channel2, pool2))


@pytest.mark.parametrize(
    ("policy", "sets", "updates", "trigger", "message"),
    [
        ("sets", None, 1, "uniqueId", "sets"),
        ("sets", 9, 1, "uniqueId", "sets"),
        ("per-gpu", None, 1, "uniqueId", "GPU"),
        ("each", None, 0, "uniqueId", "updates"),
        ("each", None, 1, "a;mode:one", "trigger"),
        ("every", None, 1, "uniqueId", "policy"),
    ],
)
def test_what_can_not_be_assigned_is_refused(
    policy: Policy, sets: int | None, updates: int, trigger: str, message: str
) -> None:
    place = spread(8, nodes(2))[0]
    with pytest.raises(ValueError, match=message):
        assign(policy, place, channel="c", pool="p", trigger=trigger, updates=updates, sets=sets)


def test_a_gpu_beyond_the_number_of_sets_is_refused() -> None:
    place = replace(spread(8, nodes(2))[0], gpu=3)
    for sets in (4, 7):
        with pytest.raises(ValueError, match="GPU 3"):
            assign("per-gpu", place, channel="c", pool="p", trigger="t", sets=sets)


def test_a_place_outside_its_sizes_is_refused() -> None:
    place = spread(8, nodes(2))[0]
    for wrong in ({"rank": 8}, {"node_index": -1}, {"local_rank": 4}, {"gpu": 64}):
        with pytest.raises(ValueError, match="outside"):
            replace(place, **wrong)
