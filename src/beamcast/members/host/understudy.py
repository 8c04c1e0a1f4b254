"""A rank's understudy: its next process, started beforehand, with everything imported, waiting for its cue.

The choice: between the death of a rank and the first result that is made again lie the start of an interpreter and
its imports, a third of a second on an idle node and two on a loaded one. An understudy has that behind it. It costs
memory, about 60 MB a rank, and no processor time; it has no port, no channel and no part in the run before its cue.
"""

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from beamcast.members.child import end_member
from beamcast.members.host.exits import PULSE_VARIABLE

# How long a rank has lived before its understudy is started: not in the moment in which the run starts as a whole.
PREPARE_AFTER_S = 10.0

Start = Callable[[Sequence[str], dict[str, str], Sequence[int]], "subprocess.Popen[Any]"]


@dataclass(frozen=True, slots=True)
class Actor:
    """One process of a rank, and the pipes to it: `pulse` brings its signs of life, `cue` tells it to begin."""

    process: "subprocess.Popen[Any]"
    pulse: int
    cue: int | None = None

    def begin(self, generation: int, before: int | None) -> None:
        """Tell an understudy which generation it is, and how the process before it ended; OSError when it has ended
        meanwhile."""
        assert self.cue is not None
        os.write(self.cue, f"{generation} {'' if before is None else before}\n".encode())

    def end(self) -> None:
        """End the process and close the pipes."""
        if self.cue is not None:
            os.close(self.cue)  # an understudy without a cue ends by this
        os.close(self.pulse)
        end_member(self.process)


def enter(start: Start, *, generation: int | None, before: int | None = None) -> Actor:
    """Start a process of the rank with `start(arguments, environment, file descriptors)`: at once as `generation`, or
    with None as an understudy. `before`: the exit status of the process before it."""
    listen, speak = os.pipe()
    wait, cue = os.pipe() if generation is None else (None, None)
    try:
        if wait is None:
            words, passed = [f"--generation={generation}"], [speak]
            if before is not None:
                words.append(f"--before={before}")
        else:
            words, passed = [f"--understudy={wait}"], [speak, wait]
        process = start(words, {PULSE_VARIABLE: str(speak)}, passed)
    except BaseException:
        for descriptor in (listen, cue):
            if descriptor is not None:
                os.close(descriptor)
        raise
    finally:
        os.close(speak)
        if wait is not None:
            os.close(wait)
    return Actor(process, listen, cue)


def wait_for_cue(descriptor: int) -> tuple[int, int | None] | None:
    """In the understudy: wait until it is needed; its generation and the exit status of the process before it, or None
    when it is not needed any more."""
    with os.fdopen(descriptor, "rb") as cue:
        words = cue.readline().split()
    if not words:
        return None
    return int(words[0]), int(words[1]) if len(words) > 1 else None
