"""How the requests to end reach a run: the first drains it, the second ends it within seconds, the third at once."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from beamcast.cli.outcome import INTERRUPTED
from beamcast.cli.streams import end_children, leave, tell
from beamcast.observe.report import Report

if TYPE_CHECKING:
    from beamcast.launch.controller import Controller

_ANSWERS = {
    1: "stopping: what is on its way is drained; once more to end within 5 s",
    2: "ending within 5 s; once more to end at once",
    3: "ending at once",
}


LAST = max(_ANSWERS)


class Ending:
    """Of one command. `asked` and `end_now` may come from any thread."""

    def __init__(self) -> None:
        self._controller: Controller | None = None
        self._conclude: Callable[[Report], int] = lambda report: INTERRUPTED
        self._give_back: Callable[[], None] = lambda: None
        self._leaving = False
        self._lock = threading.Lock()
        self._concluding = threading.Lock()

    def gives_back(self, give_back: Callable[[], None]) -> None:
        """What removes that which was made before the run begins."""
        with self._lock:
            self._give_back = give_back
            leaving = self._leaving
        if leaving:
            give_back()
            _wait_for_the_end()

    def begin(self, controller: "Controller", conclude: Callable[[Report], int]) -> None:
        """The run can be told from here on. `conclude` says how it has ended, and returns the exit status."""
        with self._lock:
            self._conclude, self._controller = conclude, controller
            leaving = self._leaving
        if leaving:
            _wait_for_the_end()

    def asked(self, count: int) -> None:
        """The user, or whoever ends this process, asks for the end, for the `count`th time."""
        with self._lock:
            controller = self._controller
            self._leaving = self._leaving or controller is None
        if controller is None or self._leaving:
            self._leave_unbegun()
        # Ctrl-\\ comes as the third at once.
        for _ in range(LAST if count >= LAST else 1):
            controller.ask_stop()
        tell(_ANSWERS[min(count, LAST)])

    def end_now(self) -> None:
        """The run has not ended in the time that it has for it: its report is written, everything that it started is
        ended without waiting, and this process leaves."""
        assert self._controller is not None, "its deadline calls this"
        leave(self.conclude(self._controller.abandon()))

    def _leave_unbegun(self) -> NoReturn:
        tell("interrupted before the run had begun")
        end_children()
        self._give_back()
        leave(INTERRUPTED)

    def conclude(self, report: Report) -> int:
        """Say how it has ended. Only one thread does; another that comes waits for the end of the process."""
        self._concluding.acquire()
        return self._conclude(report)


def _wait_for_the_end() -> NoReturn:
    """Another thread is leaving: this one must begin nothing any more."""
    while True:
        time.sleep(1.0)
