"""What `beamcast plan` prints for people."""

from typing import Any

from rich.console import Console

from beamcast.cli import plan_view


def shown(table: Any, *, width: int = 80) -> list[str]:
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def rank(number: int, **more: Any) -> dict[str, Any]:
    return {
        "pool": "recon",
        "role": "consumer",
        "rank": number,
        "node": "node0",
        "local_rank": number,
        "gpu": "",
        "cpus": "",
        "inputs": [{"channel": "beamcast:r:mirror"}],
        "output": f"beamcast:r:recon:{number}:output",
        **more,
    }


def test_what_all_processes_have_is_said_once_and_then_for_whom_it_differs() -> None:
    base = {"A": "1", "B": "2"}
    tree = {"environment": {"mirror": base, "results": base, "rank": {"A": "1", "B": "3", "C": "4"}}}
    assert list(plan_view.environment(tree)) == [
        "EPICS environment of every process of the run. beamcast sets it, you need not:",
        "  A=1",
        "  B=2",
        "It differs for",
        "  rank: B=3",
        "  rank: C=4",
    ]


def test_nothing_is_said_of_a_difference_where_there_is_none() -> None:
    tree = {"environment": {"mirror": {"A": "1"}, "rank": {"A": "1"}}}
    assert not any("differs" in line for line in plan_view.environment(tree))


def test_channels_stand_without_their_common_beginning_and_fit_a_terminal() -> None:
    tree = {"mirror": "beamcast:r:mirror", "ranks": [rank(0, set="set0", turn=0), rank(1)]}
    lines = shown(plan_view.ranks(tree))
    assert lines[0].split() == ["rank", "role", "place", "set/turn", "reads", "serves"]
    assert lines[1].split() == ["recon/0", "consumer", "node0:0", "set0/0", "mirror", "recon:0:output"]
    assert len(lines) == 3


def test_of_many_inputs_the_first_and_the_last_are_named() -> None:
    inputs = [{"channel": f"beamcast:r:recon:{number}:output"} for number in range(24)]
    tree = {"mirror": "beamcast:r:mirror", "ranks": [rank(0, inputs=inputs)]}
    text = " ".join(shown(plan_view.ranks(tree), width=140))
    assert "recon:0:output … recon:23:output (24 channels)" in text


def test_the_table_says_where_a_side_reaches_a_process_only_if_that_is_elsewhere() -> None:
    row = {"process": "mirror", "address": "10.0.0.1", "ports": "1 of 5-9", "used by": ["ranks"]}
    here = {**row, "from beamline": "10.0.0.1", "from nodes": "10.0.0.1"}
    forwarded = {**row, "from beamline": "", "from nodes": "10.3.0.254"}
    lines = shown(plan_view.addresses({"addresses": [here, forwarded]}))
    assert "beamline, nodes" in lines[1]
    assert "nodes at 10.3.0.254" in lines[2]


def test_a_range_of_ports_that_all_share_is_said_once() -> None:
    row = {"process": "mirror", "address": "a", "from beamline": "a", "from nodes": "a", "used by": ["ranks"]}
    shared = {"addresses": [{**row, "ports": "1 of 5-9"}, {**row, "ports": "2 of 5-9"}]}
    assert plan_view.port_range(shared) == "5-9"
    assert [line.split()[2] for line in shown(plan_view.addresses(shared))[1:]] == ["1", "2"]
    apart = {"addresses": [{**row, "ports": "1 of 5-9"}, {**row, "ports": "1 of 20-30"}]}
    assert plan_view.port_range(apart) == "5-9, 20-30"
    assert "1 of 20-30" in shown(plan_view.addresses(apart))[2]


def test_a_script_has_single_blank_lines_only() -> None:
    assert list(plan_view.script("\n\na\n\n\n  \nb\nc\n\n")) == ["a", "", "b", "c"]
