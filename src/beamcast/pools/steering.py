"""What others tell a rank's frame loop: plain attributes, written by the heartbeat thread, read between bursts."""

import queue
from collections.abc import Callable
from dataclasses import dataclass, field

from beamcast.pva.messages import Input

Command = Callable[[], None]


@dataclass(slots=True)
class Steering:
    """The loop looks here at least ten times a second."""

    stop: bool = False
    drain: bool = False
    inputs: tuple[Input, ...] | None = None
    # Monitor the inputs anew; taken back when that is done.
    reopen: bool = False
    released: bytes = b""
    commands: queue.SimpleQueue[Command] = field(default_factory=queue.SimpleQueue)
    # Set by the command to drain: asked again and again whether the rank has nothing left to do.
    leaving: Callable[[], bool] | None = None

    def run_commands(self) -> None:
        """Do what was asked for (configure, reset) on the loop's own thread, where no frame is in work."""
        while not self.commands.empty():
            self.commands.get()()
        if self.leaving is not None and self.leaving():
            self.leaving = None
