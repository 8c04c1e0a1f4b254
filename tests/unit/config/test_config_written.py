"""What the configuration is written back as: TOML that loads to an equal struct, and JSON schema."""

import json
import tomllib
from collections.abc import Iterator
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.config.decode import decode
from beamcast.config.effective import to_toml
from beamcast.config.load import load_site
from beamcast.config.schema import site_schema, workflow_schema
from beamcast.config.site import Site
from beamcast.config.sites import shipped_sites
from beamcast.config.units import Hertz, Seconds
from beamcast.config.workflow import (
    Deadlines,
    Distribution,
    Pool,
    Results,
    Simulation,
    Source,
    Struct,
    Workflow,
)

NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,39}", fullmatch=True)
CHANNELS = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=200)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SECONDS = st.floats(min_value=1e-9, max_value=1e9).map(Seconds)
COUNTS = st.integers(min_value=1, max_value=2**40)
VALUES = st.recursive(
    st.one_of(
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.booleans(),
        TEXTS,
        st.dates(date(1, 1, 1)),
    ),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXTS, below, max_size=3),
    max_leaves=6,
)
POOLS = st.builds(
    Pool,
    name=NAMES,
    role=st.sampled_from(["consumer", "collector"]),
    input=NAMES,
    ranks=COUNTS,
    params=st.dictionaries(TEXTS, VALUES, max_size=3),
    distribution=st.builds(Distribution, updates=COUNTS, sets=st.none() | COUNTS),
    reorder_timeout=SECONDS,
    max_failed=st.none() | st.integers(0, 100),
)
SIMULATIONS = st.builds(Simulation, rate=st.floats(1e-6, 1e9).map(Hertz), shape=st.tuples(COUNTS, COUNTS))
WORKFLOWS = st.builds(
    Workflow,
    name=NAMES,
    description=TEXTS,
    prefix=st.none() | CHANNELS,
    source=st.builds(
        Source, channel=CHANNELS, idle_timeout=st.none() | SECONDS, simulate=st.none() | SIMULATIONS
    ),
    pools=st.lists(POOLS, min_size=1, max_size=3).map(tuple),
    results=st.none() | st.builds(Results, pool=NAMES),
    deadlines=st.builds(Deadlines, start=SECONDS, drain=SECONDS),
)


def read_back(struct: Struct) -> Struct:
    return decode(type(struct), tomllib.loads(to_toml(struct)), file="effective.toml", origins={})


@given(workflow=WORKFLOWS)
def test_a_workflow_reads_back_equal(workflow: Workflow) -> None:
    assert read_back(workflow) == workflow


@pytest.mark.parametrize("name", sorted(shipped_sites()))
def test_a_site_reads_back_equal(name: str) -> None:
    assert read_back(load_site(name)) == load_site(name)


def test_effective_toml_shows_units_and_leaves_absent_keys_out() -> None:
    text = to_toml(Site(name="s"))
    assert 'walltime = "1 h"' in text
    assert "ranks_per_node" not in text


def properties(schema: object, path: str = "") -> Iterator[tuple[str, dict[str, object]]]:
    """Every property of a schema, however deep, with its path."""
    if isinstance(schema, list):
        for item in schema:
            yield from properties(item, path)
    if isinstance(schema, dict):
        for key, below in schema.get("properties", {}).items():
            yield f"{path}.{key}", below
            yield from properties(below, f"{path}.{key}")
        for key in ("items", "oneOf", "anyOf"):
            yield from properties(schema.get(key), path)


@pytest.mark.parametrize("schema", [workflow_schema(), site_schema()], ids=["workflow", "site"])
def test_every_key_is_described(schema: dict[str, object]) -> None:
    described = dict(properties(json.loads(json.dumps(schema))))
    assert len(described) > 20
    assert [path for path, it in described.items() if "const" not in it and not it.get("description")] == []


def test_workflow_schema_says_what_a_file_may_say() -> None:
    schema = workflow_schema()
    found = dict(properties(schema))
    assert schema["required"] == ["name", "source", "pools"]
    assert schema["additionalProperties"] is False
    assert found[".pools.ranks"] == {
        "type": "integer",
        "minimum": 1,
        "description": "how many processes",
        "default": 1,
    }
    assert found[".deadlines.drain"]["default"] == "30 s"
    assert "null" not in json.dumps(schema)


def test_site_schema_knows_extends() -> None:
    schema = site_schema()
    assert schema["anyOf"] == [{"required": ["name"]}, {"required": ["extends"]}]
    assert ".extends" in dict(properties(schema))
    assert dict(properties(schema))[".start.mode"] in ({"const": "workers"}, {"const": "mpi"})
