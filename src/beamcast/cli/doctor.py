"""`beamcast doctor`: what a user can get wrong, one line each, with what to do."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from beamcast.cli.options import DebugOption, JsonOption, SetSiteOption, SiteOption
from beamcast.cli.outcome import Quit
from beamcast.cli.watch import output_console
from beamcast.config.load import load_site
from beamcast.launch.checks.registry import Finding, Ground, add_checks, examine

_COLORS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    site: SiteOption = "local",
    site_settings: SetSiteOption = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Do this check alone. Repeatable.")] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Check this host against a site: versions, scheduler, network, folders, a real frame.

    Exit status 1: something is wrong that a run would fail by.
    """
    add_checks()
    chosen = load_site(site, overrides=site_settings or ())
    ground = Ground(site=chosen, run_root=Path(chosen.run_root).expanduser().absolute())
    findings: list[Finding] = []
    for finding in examine(ground, only or ()):
        findings.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        print(
            json.dumps({"site": chosen.name, "findings": [asdict(finding) for finding in findings]}, indent=2)
        )
    raise Quit(int(any(finding.verdict == "fail" for finding in findings)))


def _print(finding: Finding) -> None:
    line = Text.assemble(
        (f"{finding.verdict:5}", _COLORS[finding.verdict]), f"{finding.check:11} ", finding.found
    )
    if finding.do:
        line.append(f"\n{'':17} -> {finding.do}", style="dim")
    output_console().print(line, soft_wrap=True)
