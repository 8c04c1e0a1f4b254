"""The reference pages: their examples load, and every key of the models stands in them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from beamcast.config.check import check_workflow
from beamcast.config.load import load_site, load_workflow
from beamcast.config.schema import site_schema, workflow_schema

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


def example(page: str) -> str:
    """Return the first TOML block of a page."""
    match = re.search(r"```toml\n(.*?)```", (REFERENCE / page).read_text(), re.DOTALL)
    assert match is not None
    return match[1]


def keys(schema: object) -> Iterator[str]:
    if isinstance(schema, list):
        for item in schema:
            yield from keys(item)
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for below in schema.values():
            yield from keys(below)


def test_the_workflow_example_loads(tmp_path: Path) -> None:
    path = tmp_path / "workflow.toml"
    path.write_text(example("workflow-file.md"))
    loaded = load_workflow(path, overrides=["pools.find.ranks=8"])
    check_workflow(loaded)
    assert [pool.name for pool in loaded.workflow.pools] == ["find", "gather"]


def test_the_site_example_loads(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(example("site-file.md"))
    assert load_site(path).network.cluster.interfaces == ("bond0", "hsn0", "lo")


@pytest.mark.parametrize(
    ("page", "schema"), [("workflow-file.md", workflow_schema()), ("site-file.md", site_schema())]
)
def test_every_key_is_in_the_reference(page: str, schema: dict[str, object]) -> None:
    text = (REFERENCE / page).read_text()
    assert [key for key in set(keys(json.loads(json.dumps(schema)))) if f"`{key}`" not in text] == []
