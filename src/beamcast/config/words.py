"""How messages name what a file says: keys, values, paths and the nearest valid choice."""

import difflib
import re
from collections.abc import Iterable
from datetime import date, time

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST_TEXT = 60  # a message stays one line of a terminal; the rest of a long text helps nobody


def shown(given: object) -> str:
    """Return a value of a file as a message shows it: short, on one line, in the words of TOML."""
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, str):
        return repr(given if len(given) <= _LONGEST_TEXT else given[: _LONGEST_TEXT - 3] + "...")
    if isinstance(given, float):
        return repr(given)
    if isinstance(given, int):
        # Python refuses to print integers of more than 4300 digits.
        return repr(given) if abs(given) < 10**40 else "a number of more than 40 digits"
    names = ((dict, "a table"), (list | tuple, "a list"), (date | time, "a date or time"))
    return next((words for kind, words in names if isinstance(given, kind)), type(given).__name__)


def child(path: str, key: str | int) -> str:
    """Return the path of a key or list item below `path`: `pools` and 0 give `pools[0]`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    name = key if _BARE_KEY.fullmatch(key) else shown(key)
    return f"{path}.{name}" if path else name


def counted(number: int, noun: str) -> str:
    """Return "1 item", "2 items"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def nearest(given: str, valid: Iterable[str]) -> str:
    """Return the hint for an unknown name: the likeliest valid one, if any is near, and all of them."""
    names = sorted(valid)
    listed = f"(valid: {', '.join(names)})" if names else "(none is valid here)"
    near = difflib.get_close_matches(given[:_LONGEST_TEXT], names, n=1)
    return f"Did you mean '{near[0]}'? {listed}" if near else listed


def choice(values: Iterable[object]) -> str:
    """Return "one of 'a', 'b'", or just "'a'" for a single value."""
    listed = [shown(value) for value in values]
    return listed[0] if len(listed) == 1 else "one of " + ", ".join(listed)
