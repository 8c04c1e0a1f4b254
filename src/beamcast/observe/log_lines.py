"""Lines of log files for people. Pure."""

import json

# What every line of a controller has; the rest is told behind the message.
_HEAD = ("event", "level", "timestamp", "logger", "exception")


def for_people(line: str) -> str:
    """A line of JSON as `time level message key=value`; every other line as it is."""
    if not line.startswith("{"):
        return line
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict) or "event" not in entry:
        return line
    clock = str(entry.get("timestamp", ""))[11:19]
    level = str(entry.get("level", ""))
    parts = [clock, "" if level in ("info", "debug") else f"{level}:", str(entry["event"])]
    parts += [f"{key}={value}" for key, value in entry.items() if key not in _HEAD]
    text = " ".join(part for part in parts if part)
    return f"{text}\n{entry['exception']}" if entry.get("exception") else text


def member_of(stem: str) -> str:
    """The member whose log has this name: "stats/3" of stats-3, "mirror" of mirror."""
    pool, dash, rank = stem.rpartition("-")
    return f"{pool}/{rank}" if dash and rank.isdigit() else stem


def wanted(members: list[str], asked: str | None) -> list[str]:
    """Those that are asked for: one member, all ranks of a pool, or with None all of them."""
    if asked is None:
        return members
    name = member_of(asked) if "/" not in asked else asked
    return [one for one in members if one in (name, asked)] or [
        one for one in members if one.partition("/")[0] == asked
    ]
