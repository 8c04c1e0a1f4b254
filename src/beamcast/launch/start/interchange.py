"""Parsl's interchange, dying with the controller that started it.

Parsl ends it in good order. When the controller is killed instead, nobody would: the interchange would stay, and keep
the workers of the allocation alive.
"""

import os
import runpy
import sys

from beamcast.members.command import python_module
from beamcast.members.parent import die_with_parent
from beamcast.members.workers.parsl_only import leave_out_sdk


def command() -> list[str]:
    """How Parsl has to start it from this process."""
    return python_module("beamcast.launch.start.interchange", str(os.getpid()))


def main() -> None:
    """Entry point of the process; the controller's pid is the only argument."""
    die_with_parent(int(sys.argv.pop()))
    leave_out_sdk()
    runpy.run_module("parsl.executors.high_throughput.interchange", run_name="__main__")


if __name__ == "__main__":
    main()
