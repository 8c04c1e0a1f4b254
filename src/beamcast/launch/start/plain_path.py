"""A path to the run directory that Parsl can use.

Parsl puts its paths into shell lines without quotes, so a space in one ends in a command that does not exist. A link
with a plain name, in a temporary folder of this machine, leads around that.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from beamcast.core.errors import UsageError

_PLAIN = re.compile(r"[A-Za-z0-9_.,:/+@%=-]+")


def is_plain(path: Path) -> bool:
    """Whether a shell reads the path as one word that means itself."""
    return _PLAIN.fullmatch(str(path)) is not None


@contextmanager
def plain_path(path: Path, *, shared: bool) -> Iterator[Path]:
    """The path, or a link to it while the `with` block lasts; UsageError where only a path that is `shared` with
    other machines would do."""
    if is_plain(path):
        yield path
        return
    if shared:
        raise UsageError(
            f"the run directory {str(path)!r} has characters that batch scripts can't carry",
            hint="give one without spaces and quotes with --run-dir",
        )
    folder = Path(tempfile.mkdtemp(prefix="beamcast-"))
    if not is_plain(folder):
        shutil.rmtree(folder)
        raise UsageError(
            f"the temporary folder {str(folder)!r} has a space or quote in it", hint="set TMPDIR"
        )
    try:
        link = folder / "run"
        link.symlink_to(path.resolve(), target_is_directory=True)
        yield link
    finally:
        shutil.rmtree(folder)
