"""The members that the controller starts itself, beside it at the beamline: started, started again, ended."""

import subprocess
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beamcast.members.child import end_members, start_member

# A member that dies more often than this within so many seconds has a reason that another start does not mend.
RESTARTS, RESTART_WINDOW_S = 5, 60.0
# None of them does linear algebra: numpy's library need not start a thread for each core of the beamline's host.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}


@dataclass(slots=True)
class Child:
    """One member: how it was started, and its present process."""

    module: str
    arguments: tuple[str, ...]
    process: "subprocess.Popen[Any]"


class Children:
    """By the name of the member, such as "mirror". One thread."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._children: dict[str, Child] = {}
        self._restarted: defaultdict[str, deque[float]] = defaultdict(deque)

    def start(self, name: str, module: str, *arguments: str) -> None:
        """Start `beamcast.members.<module>` as member `name`."""
        process = self._process(name, module, arguments, generation=0)
        self._children[name] = Child(module, arguments, process)

    def restart(self, name: str, *, generation: int, now: float) -> bool:
        """Start the next process of a member that has ended; False when that would be once too often."""
        times = self._restarted[name]
        while times and now - times[0] > RESTART_WINDOW_S:
            times.popleft()
        if len(times) >= RESTARTS:
            return False
        times.append(now)
        child = self._children[name]
        child.process = self._process(name, child.module, child.arguments, generation=generation)
        return True

    def ended(self) -> Iterator[tuple[str, int]]:
        """Name and exit status of those that do not run."""
        for name, child in tuple(self._children.items()):
            status = child.process.poll()
            if status is not None:
                yield name, status

    def kill(self, name: str) -> None:
        """End a process that does not speak any more; `ended` tells then."""
        if name in self._children:
            self._children[name].process.kill()

    def end(self) -> None:
        """End all of them: together, so that it takes no longer than one of them takes."""
        end_members([child.process for child in self._children.values()])

    def abandon(self) -> None:
        """End all of them without waiting; from any thread."""
        for child in tuple(self._children.values()):
            child.process.kill()

    def _process(
        self, name: str, module: str, arguments: tuple[str, ...], *, generation: int
    ) -> "subprocess.Popen[Any]":
        words = [*arguments, f"--generation={generation}"]
        return start_member(module, run_dir=self._run_dir, name=name, arguments=words, environment=ONE_THREAD)
