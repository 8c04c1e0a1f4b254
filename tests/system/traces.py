"""Which processes belong to a run: those that name its folder, and those that were started from one that does.

Parsl's workers and their helpers don't name it on their command lines; they inherit the mark in the environment.
"""

import os
from pathlib import Path

import psutil

MARK = "BEAMCAST_TEST_RUN"


def marked(folder: Path) -> dict[str, str]:
    """What a run in this folder is to have in its environment."""
    return {MARK: str(folder)}


def words_of(process: psutil.Process) -> list[str]:
    """Its command line; empty when it has ended in between."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def processes_of(folder: Path) -> list[psutil.Process]:
    """All of them that run on this machine, in whichever namespace; none of the tests' own."""
    name = str(folder)
    found = []
    for process in psutil.process_iter(["cmdline", "environ", "status"]):
        words, environment = process.info["cmdline"] or [], process.info["environ"] or {}
        named = any(name in word for word in words) or environment.get(MARK) == name
        if named and process.pid != os.getpid() and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found
