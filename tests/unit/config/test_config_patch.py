from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.config.patch import apply_overrides, merged, parse_value
from beamcast.core.errors import ConfigError

KEYS = st.sampled_from(["a", "b", "c", "d"])
LEAVES = st.one_of(st.integers(), st.booleans(), st.text(max_size=5), st.lists(st.integers(), max_size=3))
TREES = st.dictionaries(
    KEYS, st.recursive(LEAVES, lambda below: st.dictionaries(KEYS, below, max_size=3)), max_size=4
)


def tree() -> dict[str, object]:
    return {"name": "demo", "pools": [{"name": "stats", "ranks": 1}, {"name": "out", "ranks": 1}]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        ("4.5", 4.5),
        ("true", True),
        ('"4"', "4"),
        ("[1, 2]", [1, 2]),
        ("{a = 1}", {"a": 1}),
        ("30 s", "30 s"),
        ("det:image", "det:image"),
        ("a=b", "a=b"),
        ("", ""),
        ("[1,", "[1,"),
        ("1\nother = 2", "1\nother = 2"),
        ("[" * 5000, "[" * 5000),
    ],
)
def test_values_are_toml_or_bare_strings(text: str, value: object) -> None:
    assert parse_value(text) == value


@pytest.mark.parametrize(
    "place", ["pools.stats.ranks", "pools[0].ranks", "pools.0.ranks", ' pools."stats".ranks ']
)
def test_list_items_by_name_or_index(place: str) -> None:
    result, origins = apply_overrides(tree(), [f"{place}=4"])
    assert result["pools"] == [{"name": "stats", "ranks": 4}, {"name": "out", "ranks": 1}]
    assert origins == {"pools[0].ranks": f"--set {place}=4"}


def test_missing_tables_are_made_and_later_assignments_win() -> None:
    result, _ = apply_overrides(
        tree(), ["deadlines.drain=1 s", "deadlines.drain=2 s", 'pools.out.params."x.y".z=1']
    )
    assert result["deadlines"] == {"drain": "2 s"}
    assert result["pools"][1]["params"] == {"x.y": {"z": 1}}  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ranks", "--set ranks: an assignment needs '='. Write it as --set pools.stats.ranks=4"),
        ("=4", "--set =4: the path before '=' is empty. Write it as --set pools.stats.ranks=4"),
        ("a..b=4", "--set a..b=4: 'a..b' is not a path. Write it as --set pools.stats.ranks=4"),
        (".a=4", "--set .a=4: '.a' is not a path. Write it as --set pools.stats.ranks=4"),
        ("a.=4", "--set a.=4: 'a.' is not a path. Write it as --set pools.stats.ranks=4"),
        ('a"b"=4', """--set a"b"=4: 'a"b"' is not a path. Write it as --set pools.stats.ranks=4"""),
        ("pools.sats.ranks=4", "'pools' has no item named 'sats'. Did you mean 'stats'? (valid: out, stats)"),
        ("pools[7].ranks=4", "'pools' has 2 items: there is no item 7. Items count from 0"),
        ("name.first=4", "'name' is 'demo': it has no 'first' in it"),
    ],
)
def test_refused_assignments(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides(tree(), [text])
    assert str(caught.value).endswith(message)
    assert caught.value.where == f"--set {text}"


def test_all_refused_assignments_are_reported() -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides(tree(), ["x", "pools.a.b=1", "name=ok"])
    assert [problem.where for problem in caught.value.problems] == ["--set x", "--set pools.a.b=1"]


def test_another_variant_replaces_the_whole_table() -> None:
    base = {"provider": {"kind": "pbs", "queue": "debug"}}
    assert merged(base, {"provider": {"kind": "slurm"}}) == {"provider": {"kind": "slurm"}}
    assert merged(base, {"provider": {"queue": "prod"}}) == {"provider": {"kind": "pbs", "queue": "prod"}}


@given(base=TREES, over=TREES)
def test_merging_keeps_everything_said_and_changes_no_input(
    base: dict[str, object], over: dict[str, object]
) -> None:
    before = deepcopy((base, over))
    result = merged(base, over)
    assert (base, over) == before
    assert result.keys() == base.keys() | over.keys()
    assert merged(result, over) == result
    assert merged(base, {}) == base
    assert merged({}, over) == over


@given(base=TREES, over=TREES)
def test_a_leaf_laid_over_wins(base: dict[str, object], over: dict[str, object]) -> None:
    result = merged(base, over)
    for key, value in over.items():
        if not isinstance(value, dict):
            assert result[key] == value


@given(value=st.integers(), steps=st.lists(KEYS, min_size=1, max_size=5))
def test_what_is_assigned_is_found_at_its_path(value: int, steps: list[str]) -> None:
    before = tree()
    result, origins = apply_overrides(before, [f"new.{'.'.join(steps)}={value}"])
    node: object = result["new"]
    for step in steps:
        assert isinstance(node, dict)
        node = node[step]
    assert node == value
    assert list(origins) == ["new." + ".".join(steps)]
    assert before == tree()


@pytest.mark.parametrize("text", ["foo", "=4", "a..b=4"])
def test_mistakes_speak_of_the_option_that_was_given(text: str) -> None:
    """P19."""
    with pytest.raises(ConfigError) as caught:
        apply_overrides({}, [text], option="--set-site")
    assert str(caught.value).startswith(f"--set-site {text}: ")
    assert str(caught.value).endswith("Write it as --set-site allocation.nodes=2")
