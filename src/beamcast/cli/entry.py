"""Where the command `beamcast` begins: the commands take half a second to import, in which Ctrl-C may come."""

import os
from typing import NoReturn

# As shells tell it: ended by SIGINT.
_INTERRUPTED = 130


def main() -> NoReturn:
    """Entry point."""
    try:
        from beamcast.cli.main import main as run_command
    except KeyboardInterrupt:
        os.write(2, b"interrupted before anything was begun\n")
        os._exit(_INTERRUPTED)
    run_command()
