"""`beamcast control`: parameters, statistics and orders to the ranks of a running run."""

import json
import time
from typing import Annotated, Any

import msgspec
import typer

from beamcast.cli.options import JsonOption
from beamcast.cli.outcome import FAILED, Quit
from beamcast.cli.query import RunArgument
from beamcast.cli.runline import RunLine, find_run
from beamcast.config.patch import parse_value
from beamcast.core.commands import COMMANDS, parse_command
from beamcast.core.errors import UsageError, WorldError
from beamcast.pva.messages import Control, ControlQuestion, ControlState

POLL_S = 0.1

CommandArgument = Annotated[str, typer.Argument(help=f"One of {', '.join(COMMANDS)}.", show_default=False)]
SettingsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME=VALUE]...", help="Parameters, for configure.", show_default=False),
]
PoolOption = Annotated[str | None, typer.Option("--pool", help="The ranks of this pool; absent: all pools.")]
RankOption = Annotated[int | None, typer.Option("--rank", min=0, help="This rank of the pool alone.")]
WaitOption = Annotated[float, typer.Option(min=0.001, help="Seconds to wait for all answers.")]


def control(
    run: RunArgument,
    command: CommandArgument,
    settings: SettingsArgument = None,
    pool: PoolOption = None,
    rank: RankOption = None,
    timeout: WaitOption = 40.0,
    as_json: JsonOption = False,
) -> None:
    """Tell the ranks of a run something and show what each of them answers; status 1 where one did not do it.

    drain and stop without a pool end the whole run in good order.
    """
    asked = parse_command(command, arguments_of(command, settings or []))
    line = RunLine(find_run(run))
    request = Control(name=asked.name, arguments=asked.arguments, pool=pool, rank=rank)
    state = _wait(line, _exchange(line, request), timeout)
    print(_as_json(state) if as_json else _as_text(state))
    if state.waiting or any(answer.code for answer in state.answers.values()):
        raise Quit(FAILED)


def arguments_of(command: str, settings: list[str]) -> str:
    """The settings as JSON; UsageError for what is no NAME=VALUE, or where none is wanted or none is given."""
    if command != "configure":
        parse_command(command, "")
        if settings:
            raise UsageError(f"{command} takes no parameters, only configure does")
        return ""
    values: dict[str, object] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{text!r} is not NAME=VALUE", hint="such as threshold=3")
        values[name.strip()] = parse_value(value.strip())
    if not values:
        raise UsageError("configure needs parameters", hint="such as threshold=3")
    return msgspec.json.encode(values).decode()


def _wait(line: RunLine, state: ControlState, timeout_s: float) -> ControlState:
    deadline = time.monotonic() + timeout_s
    while state.waiting and time.monotonic() < deadline:
        time.sleep(POLL_S)
        state = _exchange(line, ControlQuestion(number=state.number))
    return state


def _exchange(line: RunLine, request: Control | ControlQuestion) -> ControlState:
    answer = line.command(request)
    if not isinstance(answer, ControlState):
        raise WorldError(f"the controller answered with {type(answer).__name__}")
    if answer.refused:
        raise UsageError(answer.refused)
    return answer


def _as_text(state: ControlState) -> str:
    lines = []
    for name, answer in sorted(state.answers.items()):
        lines.append(f"{name}: {'error: ' if answer.code else ''}{answer.message}")
        if answer.stats:
            lines += [f"  {path} {value}" for path, value in _flat(json.loads(answer.stats))]
    lines += [f"{name}: error: has not answered" for name in state.waiting]
    return "\n".join(lines)


def _flat(tree: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in tree.items():
        flat += _flat(value, f"{path}{name}.") if isinstance(value, dict) else [(path + name, value)]
    return flat


def _as_json(state: ControlState) -> str:
    answers = {
        name: {
            "returnCode": answer.code,
            "statusMessage": answer.message,
            **({"stats": json.loads(answer.stats)} if answer.stats else {}),
        }
        for name, answer in sorted(state.answers.items())
    }
    return json.dumps({"answers": answers, "waiting": list(state.waiting)}, indent=2)
