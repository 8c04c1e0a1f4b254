"""`beamcast plan`: what a run would do, starting nothing."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from beamcast.cli.graph import graph as pool_graph
from beamcast.cli.options import JsonOption, SetOption, SetSiteOption, SiteOption, WorkflowFile
from beamcast.cli.run import NameOption, RunDirOption, make_plan
from beamcast.cli.watch import output_console


def plan(
    workflow: WorkflowFile,
    site: SiteOption = "local",
    name: NameOption = None,
    run_dir: RunDirOption = None,
    settings: SetOption = None,
    site_settings: SetSiteOption = None,
    as_json: JsonOption = False,
    graph: Annotated[bool, typer.Option("--graph", help="Show only who reads whom.")] = False,
) -> None:
    """Show what `run` would do: ranks and slots, addresses, EPICS environment, batch script. Starts nothing."""
    made = make_plan(workflow, site=site, name=name, settings=settings, site_settings=site_settings)
    if graph:
        output_console().print(pool_graph(made), soft_wrap=True)
        return
    folder = (run_dir or Path(made.site.run_root) / made.run).absolute()
    from beamcast.cli.preview import preview  # imports Parsl

    tree = preview(made, folder)
    if as_json:
        print(json.dumps(tree, indent=2))
    else:
        show(tree, output_console())


def show(tree: dict[str, Any], console: Console) -> None:
    """Print the plan for people."""
    console.print(f"run {tree['run']} in {tree['run_dir']}, delivery {tree['delivery']}", soft_wrap=True)
    console.print(f"source {tree['source']} -> mirror {tree['mirror']}", soft_wrap=True)
    for output, result in tree["results"].items():
        console.print(f"{output} -> result {result}", soft_wrap=True)
    console.print()
    console.print(_ranks(tree["ranks"]))
    console.print()
    console.print(
        _rows(tree["addresses"], ("process", "address", "ports", "from beamline", "from nodes", "used by"))
    )
    for process, variables in tree["environment"].items():
        console.print(f"\nenvironment of {process}:")
        for name, value in variables.items():
            console.print(f"  {name}={value}", soft_wrap=True)
    if tree["parsl"] is not None:
        console.print("\nParsl configuration:")
        console.print(tree["parsl"], soft_wrap=True)
    if tree["batch_script"] is not None:
        console.print("\nbatch script:")
        console.print(tree["batch_script"], soft_wrap=True)


def _ranks(ranks: list[dict[str, Any]]) -> Table:
    rows = [
        {
            "rank": f"{rank['pool']}/{rank['rank']}",
            "role": rank["role"],
            "place": f"{rank['node']}:{rank['local_rank']}",
            "GPU": rank["gpu"],
            "CPUs": rank["cpus"],
            "set/turn": f"{rank['set']}/{rank['turn']}" if "set" in rank else "",
            "reads": ", ".join(one["channel"] for one in rank["inputs"]),
            "serves": rank["output"],
        }
        for rank in ranks
    ]
    hardware = tuple(column for column in ("GPU", "CPUs") if any(row[column] for row in rows))
    return _rows(rows, ("rank", "role", "place", *hardware, "set/turn", "reads", "serves"))


def _rows(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        cells = [row[column] for column in columns]
        table.add_row(*(", ".join(cell) if isinstance(cell, list) else str(cell) for cell in cells))
    return table
