"""What a member prints is in its log at once."""

import subprocess
import sys

DIES = """
import os, signal, subprocess, sys
from beamcast.pools.printing import print_at_once
print_at_once()
print("mine")
subprocess.run([sys.executable, "-c", "print('of a child'); import os; os.kill(os.getpid(), 9)"])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_printed_before_a_kill_is_in_the_log() -> None:
    """P16: there was no log until 8 KB had come."""
    done = subprocess.run([sys.executable, "-c", DIES], stdout=subprocess.PIPE, text=True, check=False)
    assert done.stdout.splitlines() == ["mine", "of a child"]
