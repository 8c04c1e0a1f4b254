"""`python -m beamcast`: the same as the command `beamcast`."""

import os
import sys

# `python -m` puts the working folder first on the path, where a file of the user's may have the name of a module that
# we import (`queue.py`): nothing of ours is imported from there.
if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):  # noqa: PTH109 - as Python writes it
    del sys.path[0]

from beamcast.cli.entry import main

main()
