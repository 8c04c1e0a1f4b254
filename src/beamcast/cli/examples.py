"""`beamcast examples`: the examples that come along, as files of your own.

The choice: all or nothing. Where one of the files is there already nothing is copied, so nobody is left with a folder
that is half old and half new.
"""

import os
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Annotated

import typer

import beamcast
from beamcast.core.errors import UsageError, WorldError

CACHE = "__pycache__"  # what pip compiles into the package
DESCRIBED_BY = "workflow.toml"
FIRST = "first-light"


def examples(
    folder: Annotated[
        Path | None, typer.Argument(help="Where to copy them; made if it is not there.", show_default=False)
    ] = None,
) -> None:
    """List the examples, or copy them all into a folder, never over existing files."""
    shipped = examples_folder(Path(beamcast.__file__).parent)
    if folder is None:
        _list(shipped)
        return
    copied = copy(shipped, folder)
    names = sorted({path.parts[0] for path in copied if len(path.parts) > 1})
    print(f"copied {len(names)} examples into {folder}: {', '.join(names)}")
    print(f"Try: beamcast run {shlex.quote(str(folder / FIRST / DESCRIBED_BY))}")
    print(f"{folder / 'README.md'} says what each shows.")


def examples_folder(package: Path) -> Path:
    """Return the folder of the examples of an installed package, or of a checkout's `src/beamcast`."""
    shipped = package / "examples"
    return shipped if shipped.is_dir() else package.parents[1] / "examples"


def copy(shipped: Path, folder: Path) -> list[PurePath]:
    """Copy all files; their paths below `folder`. UsageError, before anything is copied, where one is there."""
    paths = list(_files(shipped))
    there = [path for path in paths if os.path.lexists(folder / path)]  # a link to nowhere is a file too
    if there:
        more = f", and so are {len(there) - 1} more files" if len(there) > 1 else ""
        raise UsageError(
            f"{folder / there[0]} is there already{more}: nothing is copied",
            hint="name another folder, or move that one away",
        )
    try:
        for path in paths:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(shipped / path, folder / path)  # not its mode: these files are yours to change
    except OSError as error:
        at = error.filename2 or error.filename or folder
        raise WorldError(f"can't write {at}: {error.strerror}", hint="name a folder of your own") from error
    return paths


def _files(shipped: Path) -> Iterator[PurePath]:
    for path in sorted(shipped.rglob("*")):
        if path.is_file() and CACHE not in path.parts:
            yield path.relative_to(shipped)


def _list(shipped: Path) -> None:
    described = {path.parent.name: _description(path) for path in sorted(shipped.glob(f"*/{DESCRIBED_BY}"))}
    width = max(map(len, described), default=0)
    for name, text in described.items():
        print(f"{name:{width}}  {text}")
    print("\n`beamcast examples DIR` copies them into DIR; each has a README.md.")


def _description(workflow: Path) -> str:
    return str(tomllib.loads(workflow.read_text(encoding="utf-8")).get("description", ""))
