"""A plan for people: who runs where, who listens where, the EPICS environment, the batch script. Pure.

The choice: what is the same for all processes is said once, and then for whom something differs. The whole tree, each
process by itself, is what `beamcast plan --json` prints.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from rich.table import Table

Tree = dict[str, Any]
# Of more inputs than this only the first and the last are named.
FEW = 4


def head(tree: Tree) -> Iterator[str]:
    """What is run, and the way of the frames from the source to the results."""
    yield f"run       {tree['run']}, delivery {tree['delivery']}"
    yield f"folder    {tree['run_dir']}"
    yield f"source    {tree['source']}"
    yield f"mirror    {tree['mirror']}"
    for output, result in tree["results"].items():
        yield f"result    {result}, from {output.removeprefix(common_beginning(tree))}"


def common_beginning(tree: Tree) -> str:
    """What the names of all channels of the run begin with."""
    return str(tree["mirror"]).removesuffix("mirror")


def ranks(tree: Tree) -> Table:
    """A row for each rank; channels without their common beginning."""
    beginning = common_beginning(tree)
    rows = [_rank(rank, beginning) for rank in tree["ranks"]]
    hardware = tuple(column for column in ("GPU", "CPUs") if any(row[column] for row in rows))
    return _table(rows, ("rank", "role", "place", *hardware, "set/turn", "reads", "serves"))


def _rank(rank: Tree, beginning: str) -> dict[str, str]:
    return {
        "rank": f"{rank['pool']}/{rank['rank']}",
        "role": rank["role"],
        "place": f"{rank['node']}:{rank['local_rank']}",
        "GPU": rank["gpu"],
        "CPUs": rank["cpus"],
        "set/turn": f"{rank['set']}/{rank['turn']}" if "set" in rank else "",
        "reads": _several([one["channel"].removeprefix(beginning) for one in rank["inputs"]]),
        "serves": rank["output"].removeprefix(beginning),
    }


def _several(channels: list[str]) -> str:
    if len(channels) <= FEW:
        return ", ".join(channels)
    return f"{channels[0]} … {channels[-1]} ({len(channels)} channels)"


def port_range(tree: Tree) -> str:
    """From which ports all that listen take theirs; several ranges where nodes have one of their own."""
    ranges = dict.fromkeys(row["ports"].partition(" of ")[2] for row in tree["addresses"])
    return ", ".join(ranges)


def addresses(tree: Tree) -> Table:
    """A row for each process that listens, and who connects to it."""
    one_range = "," not in port_range(tree)
    rows = [
        {
            "process": row["process"],
            "address": row["address"],
            "ports": row["ports"].partition(" of ")[0] if one_range else row["ports"],
            "reached from": _reached(row),
            "used by": ", ".join(row["used by"]),
        }
        for row in tree["addresses"]
    ]
    return _table(rows, ("process", "address", "ports", "reached from", "used by"))


def _reached(row: Tree) -> str:
    sides = [(side, row[f"from {side}"]) for side in ("beamline", "nodes")]
    elsewhere = {row["address"], "<the node>"}
    return ", ".join(side if at in elsewhere else f"{side} at {at}" for side, at in sides if at)


def environment(tree: Tree) -> Iterator[str]:
    """The EPICS variables that most processes have, then those of a process that differ."""
    processes: dict[str, dict[str, str]] = tree["environment"]
    most = _most_common(processes)
    yield "EPICS environment of every process of the run. beamcast sets it, you need not:"
    yield from (f"  {name}={value}" for name, value in most.items())
    differing = {
        process: {name: value for name, value in variables.items() if most.get(name) != value}
        for process, variables in processes.items()
    }
    if any(differing.values()):
        yield "It differs for"
    for process, variables in differing.items():
        yield from (f"  {process}: {name}={value}" for name, value in variables.items())


def _most_common(processes: dict[str, dict[str, str]]) -> dict[str, str]:
    """The value that most processes have, of each variable that all have."""
    first, *others = processes.values()
    names = [name for name in first if all(name in other for other in others)]
    return {name: Counter(each[name] for each in processes.values()).most_common(1)[0][0] for name in names}


def script(text: str) -> Iterator[str]:
    """A batch script with single blank lines only."""
    for blank, lines in groupby(text.strip().splitlines(), key=lambda line: not line.strip()):
        yield from [""] if blank else lines


def _table(rows: list[dict[str, str]], columns: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    return table
