"""The endpoint's template and schema: the shipped site's options fit them, and nonsense does not."""

import json
import re
from pathlib import Path

from beamcast.config.load import load_site

FOLDER = Path(__file__).parents[3] / "launchers" / "globus-compute"


def test_every_value_of_the_template_is_in_the_schema() -> None:
    template = (FOLDER / "user_config_template.yaml.j2").read_text()
    schema = json.loads((FOLDER / "user_config_schema.json").read_text())
    used = set(re.findall(r"\{\{ ([a-z_]+)", template))
    assert used <= set(schema["properties"])
    assert set(schema["required"]) == {
        name for name in used if f"{{{{ {name}|tojson }}}}" in template or f"{{{{ {name} }}}}" in template
    }


def test_the_shipped_sites_options_fit_the_schema() -> None:
    schema = json.loads((FOLDER / "user_config_schema.json").read_text())
    site = load_site("polaris-globus", overrides=["globus.options.account=MyProject"])
    assert site.globus is not None
    assert site.globus.options["nodes_per_block"] == site.allocation.nodes
    for name, value in site.globus.options.items():
        rule = schema["properties"][name]
        assert value == rule.get("const", value)
        assert re.search(rule.get("pattern", ""), str(value)), name
    assert not re.search(schema["properties"]["scheduler_options"]["pattern"], "#PBS -q x\nrm -rf /")
