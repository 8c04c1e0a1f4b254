"""`beamcast keys`: key files for sealed streams."""

from pathlib import Path
from typing import Annotated

import typer

from beamcast.core.errors import UsageError
from beamcast.security.keys import KeyRing

app = typer.Typer(
    name="keys",
    help="Make and look at the key files of sealed streams (`seal` and `open` of a pool).",
    no_args_is_help=True,
    add_completion=False,
)
File = Annotated[Path, typer.Argument(help="The key file.", show_default=False)]


@app.command("create")
def create(file: File) -> None:
    """Make a file with a new key that only its owner may read; never over an existing one."""
    try:
        KeyRing.create().write(file)
    except FileExistsError:
        raise UsageError(
            f"{file} is there already", hint="give another name, or `beamcast keys rotate` for a new key"
        ) from None
    except OSError as error:
        raise UsageError(f"can't write {file}: {error.strerror}") from error
    _print(file)


@app.command("show")
def show(file: File) -> None:
    """Print the fingerprints of the keys in a file, to compare both ends of a stream without showing a key."""
    _print(file)


@app.command("rotate")
def rotate(
    file: File, keep: Annotated[int, typer.Option(help="Earlier keys that still open.", min=0)] = 1
) -> None:
    """Put a new key in front; earlier ones still open what they sealed. Give opening sides the file first."""
    try:
        KeyRing.read(file).rotated(keep=keep).replace(file)
    except OSError as error:
        raise UsageError(f"can't write {file}: {error.strerror}") from error
    _print(file)


def _print(file: Path) -> None:
    for number, (key_id, fingerprint) in enumerate(KeyRing.read(file).fingerprints()):
        print(f"{key_id}  {fingerprint}  {'opens' if number else 'seals and opens'}")
