"""The time that a run has to end."""

import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)


class EndDeadline:
    """Calls `overdue` once, on a thread of its own, when the run has not ended in time. From any thread."""

    def __init__(self, overdue: Callable[[], None]) -> None:
        self._overdue = overdue
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._at = float("inf")
        self._called = False

    def ends_within(self, seconds: float) -> None:
        """From now on it has so long, or what it had before where that is less."""
        with self._lock:
            at = time.monotonic() + seconds
            if at >= self._at or self._called:
                return
            self._stop_timer()
            self._at = at
            self._timer = threading.Timer(seconds, self._call)
            self._timer.name = "end-deadline"
            self._timer.daemon = True
            self._timer.start()

    def met(self) -> None:
        """There is no deadline any more."""
        with self._lock:
            self._stop_timer()
            self._at = float("inf")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _call(self) -> None:
        with self._lock:
            if self._called or time.monotonic() < self._at:
                return
            self._called = True
        logger.warning("the run has not ended in time: what is left of it is ended without waiting")
        self._overdue()
