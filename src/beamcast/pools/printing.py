"""What processors print."""

import io
import os
import sys


def print_at_once() -> None:
    """What is printed goes out line by line: Python would hold back 8 KB of it where the other end is no terminal. The
    variable is for processes that a processor starts."""
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
