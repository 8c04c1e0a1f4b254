"""Every text file that is read or written, and every command that is asked, names its encoding (C9): by default Python
takes the locale's, which differs between hosts, and on batch nodes is often ASCII."""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "src" / "beamcast"
TEXT = ("read_text", "write_text")
OPENERS = ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile")


def calls() -> Iterator[tuple[Path, ast.Call]]:
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield path, node


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def is_text(call: ast.Call) -> bool:
    """Whether the call opens a text file; what opens something else has no mode."""
    words = [*call.args, *(each.value for each in call.keywords if each.arg == "mode")]
    modes = [each.value for each in words if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    modes = [mode for mode in modes if set(mode) <= set("rwxabt+")]
    if modes:
        return "b" not in modes[0]
    path_open = isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Call)
    return name_of(call) == "fdopen" or (name_of(call) == "open" and path_open and not call.args)


def test_every_text_names_its_encoding() -> None:
    forgotten = []
    for path, call in calls():
        given = {each.arg for each in call.keywords}
        if name_of(call) in TEXT and "encoding" not in given:
            forgotten.append(f"{path.relative_to(SOURCES)}:{call.lineno}")
        if name_of(call) in OPENERS and "encoding" not in given and is_text(call):
            forgotten.append(f"{path.relative_to(SOURCES)}:{call.lineno}")
    assert forgotten == []


def test_no_command_is_read_strictly() -> None:
    """What another program prints may hold any byte, such as a Latin-1 comment of somebody else's job (B4)."""
    strict = []
    for path, call in calls():
        given = {each.arg: each.value for each in call.keywords}
        text = given.get("text", given.get("universal_newlines"))
        if isinstance(text, ast.Constant) and text.value is True:
            named = {"encoding", "errors"} <= set(given)
            if not named:
                strict.append(f"{path.relative_to(SOURCES)}:{call.lineno}")
    assert strict == []
