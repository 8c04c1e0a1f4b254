"""`beamcast plan`: what a run would do, starting nothing."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from beamcast.cli import plan_view
from beamcast.cli.graph import graph as pool_graph
from beamcast.cli.options import JsonOption, NoCheckOption, SetOption, SetSiteOption, SiteOption, WorkflowFile
from beamcast.cli.run import NameOption, RunDirOption, check_processors, make_plan, note_of
from beamcast.cli.watch import output_console

# What stands above the script, for each way of starting.
BATCH_SCRIPT = {
    "parsl": "Batch script, which Parsl submits for you:",
    "external": "Script that starts the ranks; you start it yourself:",
    "globus-compute": "Script that the endpoint's function runs:",
}


def plan(
    workflow: WorkflowFile,
    site: SiteOption = "local",
    name: NameOption = None,
    run_dir: RunDirOption = None,
    settings: SetOption = None,
    site_settings: SetSiteOption = None,
    as_json: JsonOption = False,
    graph: Annotated[bool, typer.Option("--graph", help="Show only who reads whom.")] = False,
    parsl: Annotated[bool, typer.Option("--parsl", help="Show Parsl's configuration too.")] = False,
    no_check: NoCheckOption = False,
) -> None:
    """Show what `run` would do: ranks and slots, addresses, EPICS environment, batch script. Starts nothing, but tries
    the processors with one frame, in a process of their own."""
    made = make_plan(workflow, site=site, name=name, settings=settings, site_settings=site_settings)
    if graph:
        output_console().print(pool_graph(made), soft_wrap=True)
        return
    folder = (run_dir or Path(made.site.run_root) / made.run).absolute()

    def preview() -> Any:
        from beamcast.cli.preview import preview as look_ahead  # imports Parsl

        return look_ahead(made, folder)

    tree = check_processors(made, meanwhile=preview, leave_out=no_check)
    if (note := note_of(made)) is not None:
        print(note, file=sys.stderr)
    if as_json:
        print(json.dumps(tree, indent=2))
    else:
        show(tree, output_console(), parsl=parsl)


def show(tree: dict[str, Any], console: Console, *, parsl: bool) -> None:
    """Print the plan for people."""

    def lines(texts: Iterable[str]) -> None:
        for text in texts:
            console.print(text, soft_wrap=True)

    lines(plan_view.head(tree))
    lines(["", f"Ranks (before every channel stands {plan_view.common_beginning(tree)})"])
    console.print(plan_view.ranks(tree))
    lines(["", f"Who listens, with how many TCP ports of {plan_view.port_range(tree)}:"])
    console.print(plan_view.addresses(tree))
    lines(["", *plan_view.environment(tree)])
    if tree["batch_script"] is not None:
        lines(["", BATCH_SCRIPT[tree["executor"]], *plan_view.script(tree["batch_script"])])
    if parsl and tree["parsl"] is not None:
        lines(["", "Parsl configuration:", tree["parsl"]])
