"""Changing a parsed TOML tree before it is decoded: one file over another, and `--set` over both. Pure.

merged(base, over)                       tables merge, everything else is replaced (lists too)
apply(tree, "pools.stats.ranks=4")       list items by name or by index; tables that are missing are made
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy

from beamcast.config.words import child, counted, nearest, shown
from beamcast.core.errors import ConfigError, Problem, UsageError

# Keys that choose a variant: where they differ, the keys beside them are of another variant and don't merge.
TAGS = ("kind", "mode")
_STEP = re.compile(r'\.?(?:([A-Za-z0-9_-]+)|"([^"]*)")|\[([0-9]{1,6})\]')
_EXAMPLES = {"--set": "pools.stats.ranks=4", "--set-site": "allocation.nodes=2"}


class _Refused(UsageError):
    """One assignment can't be done; never leaves this module."""


class _Malformed(_Refused):
    """It is no assignment at all."""


def merged(base: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    """Return `base` with `over` laid on it; neither is changed."""
    result = deepcopy(dict(base))
    for key, value in over.items():
        below = result.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and not _other_variant(below, value):
            result[key] = merged(below, value)
        else:
            result[key] = deepcopy(value)
    return result


def apply_overrides(
    tree: Mapping[str, object], overrides: Sequence[str], *, option: str = "--set"
) -> tuple[dict[str, object], dict[str, str]]:
    """Return the tree with all assignments done, in order, and by path which `option` wrote there.

    Raises ConfigError with every assignment that is malformed or names a list item that does not exist.
    """
    result = deepcopy(dict(tree))
    origins: dict[str, str] = {}
    problems: list[Problem] = []
    for text in overrides:
        origin = f"{option} {text}"
        try:
            origins[_assign(result, text)] = origin
        except _Malformed as error:
            form = f"Write it as {option} {_EXAMPLES[option]}"
            problems.append(Problem(error.message, where=origin, hint=form))
        except _Refused as error:
            problems.append(Problem(error.message, where=origin, hint=error.hint))
    if problems:
        raise ConfigError.of(problems)
    return result, origins


def parse_value(text: str) -> object:
    """Return the TOML value that `text` is, or `text` itself where it is none (a bare string)."""
    try:
        tree = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return tree["value"] if list(tree) == ["value"] else text


def _assign(tree: dict[str, object], text: str) -> str:
    """Do one assignment in place and return the path it wrote; _Refused if it can't be done."""
    place, equals, value = text.partition("=")
    if not equals:
        raise _Malformed("an assignment needs '='")
    steps = _steps(place.strip())
    node: object = tree
    path = ""
    for step in steps[:-1]:
        key = _key(node, step, path)
        node = _below(node, key)
        path = child(path, key)
    last = _key(node, steps[-1], path)
    node[last] = parse_value(value.strip())  # type: ignore[index]  # _key refused what has no items
    return child(path, last)


def _steps(place: str) -> list[str]:
    """Return the steps of a path such as `pools[0].ranks` or `params."a key".x`."""
    steps, end = [], 0
    while end < len(place):
        match = _STEP.match(place, end)
        if match is None or (match.group().startswith(".") == (end == 0) and match.group(3) is None):
            raise _Malformed(f"{shown(place)} is not a path")
        steps.append(next(group for group in match.groups() if group is not None))
        end = match.end()
    if not steps:
        raise _Malformed("the path before '=' is empty")
    return steps


def _key(node: object, step: str, path: str) -> str | int:
    """Return what `step` means in `node`: a key of a table, or the index of a list item by number or name."""
    if isinstance(node, dict):
        return step
    if not isinstance(node, list):
        raise _Refused(f"'{path}' is {shown(node)}: it has no '{step}' in it")
    if step.isascii() and step.isdigit():
        if int(step) < len(node):
            return int(step)
        raise _Refused(
            f"'{path}' has {counted(len(node), 'item')}: there is no item {step}", hint="Items count from 0"
        )
    names = [item.get("name") if isinstance(item, dict) else None for item in node]
    if step in names:
        return names.index(step)
    known = [name for name in names if isinstance(name, str)]
    raise _Refused(f"'{path}' has no item named '{step}'", hint=nearest(step, known))


def _below(node: object, key: str | int) -> object:
    if isinstance(node, dict):
        return node.setdefault(key, {})
    assert isinstance(node, list), "_key refuses anything else"
    return node[int(key)]


def _other_variant(below: Mapping[str, object], value: Mapping[str, object]) -> bool:
    return any(tag in below and tag in value and below[tag] != value[tag] for tag in TAGS)
