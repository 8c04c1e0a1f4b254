"""UTF-8 inside, whatever the locale: what users write is UTF-8, and so are all of our files.

The choice: a process of another locale begins again in Python's UTF-8 mode. Naming the encoding of our own files is not
enough: Parsl writes batch scripts, and users' processors print, in the locale's encoding. A terminal gets what it can
show.
"""

import codecs
import locale
import os
import sys
from pathlib import Path

from beamcast.core.errors import UsageError

# The encoding of the terminal, for the process that begins again.
_TERMINAL = "BEAMCAST_TERMINAL_ENCODING"


def speak_utf8() -> None:
    """Settle the encodings of this process and of all that it starts. May replace the process by another one."""
    if not sys.flags.utf8_mode and not _is_utf8(locale.getencoding()):
        os.environ.update({"PYTHONUTF8": "1", _TERMINAL: locale.getencoding()})
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    terminal = os.environ.pop(_TERMINAL, None)
    for stream in (sys.stdout, sys.stderr):
        # A stream may be closed, or a test's own.
        if stream is not None and hasattr(stream, "reconfigure"):
            shown_as = terminal if terminal is not None and stream.isatty() else stream.encoding
            stream.reconfigure(encoding=shown_as, errors="replace")


def _is_utf8(encoding: str) -> bool:
    try:
        return codecs.lookup(encoding).name == "utf-8"
    except LookupError:
        return False


def check_path(path: Path) -> None:
    """UsageError for a path whose name is no text, as of files that were named under another locale: it could be
    written into no file of ours."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = str(path).encode(errors="replace").decode()
        raise UsageError(
            f"the path {shown} has characters that are not UTF-8", hint="rename the folder or file"
        ) from None
