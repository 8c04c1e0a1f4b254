"""The command line of a Python process of ours.

The choice: `-P`. Without it `python -m` looks for every module in the working folder first, which is the user's: a file
of theirs that is called `queue.py` would take the place of Python's own, and where others may write they could run code
of theirs in the run.
"""

import sys


def python_module(module: str, *words: str) -> list[str]:
    """What runs `module` with this interpreter."""
    return [sys.executable, *SAFE_MODULE, module, *words]


# What stands between an interpreter and the name of a module.
SAFE_MODULE = ("-P", "-m")
