"""Frames taken out of a queue several at a time.

The choice: who waits for each frame by itself is woken for each, and at that very moment the threads that receive and
send want the same locks. On two cores that took more of the mirror's processor time than its decisions. So frames that
follow each other faster than one in `NAP_S` wait for each other; a slow stream is not delayed, and neither is one that
is behind already.
"""

import time
from typing import Any

# The longest that a frame waits for others: well below what passing it on takes under load.
NAP_S = 0.002
# Other threads wait while a gulp is handed on: some hundred microseconds.
MOST_FRAMES = 32


class Gulps:
    """What has come in a `PvObjectQueue`. One thread."""

    def __init__(self, queue: Any, *, wait_s: float) -> None:
        """`wait_s`: how long `take` waits for a first frame."""
        import pvaccess

        self.queue = queue
        self._wait_s = wait_s
        self._empty: type[Exception] = pvaccess.QueueEmpty
        self._took_at = 0.0

    def take(self) -> list[Any]:
        """The updates that wait, in the order in which they came, `MOST_FRAMES` at most; none after `wait_s`."""
        queue = self.queue
        try:
            first = queue.get(self._wait_s)
        except self._empty:
            return []
        now = time.monotonic()
        if now - self._took_at < NAP_S and len(queue) < MOST_FRAMES:
            time.sleep(NAP_S)
        self._took_at = now
        get = queue.get
        return [first, *(get(0) for _ in range(min(len(queue), MOST_FRAMES - 1)))]
