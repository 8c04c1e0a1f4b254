"""The pieces of one frame, shared among a few threads.

AES-GCM does 8 to 10 GB/s on a core, a copy in memory not much more: a large frame is faster on two cores, and the
cipher gives up Python's lock while it works. The calling thread takes pieces like the helpers, so a helper that gets
no processor costs nothing but its start; that start (20 to 50 µs) is why small frames stay on the calling thread.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# From here on (4 MiB) the work is some ten times what it costs to wake helpers.
MIN_SHARED_PIECES = 4
# More cores than this only wait for memory, and a node has other ranks.
MAX_THREADS = 4

Job = tuple[Any, ...]


def default_threads() -> int:
    """As many as this process may use cores, 4 at most."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MAX_THREADS, allowed)


class Pieces:
    """Does the same operation on each piece of a frame. One frame at a time; `close` ends the helpers."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = default_threads() if threads is None else threads
        self._executor: ThreadPoolExecutor | None = None

    def run(self, operate: Callable[..., Any], jobs: Sequence[Job]) -> None:
        """Call `operate(*job)` for each job, in any order. What it raises is raised here, and no job runs after."""
        if self.threads < 2 or len(jobs) < MIN_SHARED_PIECES:
            for job in jobs:
                operate(*job)
            return
        waiting = deque(jobs)
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.threads - 1, thread_name_prefix="beamcast-seal")
        helping = [self._executor.submit(_work, operate, waiting) for _ in range(self.threads - 1)]
        try:
            _work(operate, waiting)
        finally:
            waiting.clear()
            failures = [future.exception() for future in helping if not future.cancel()]
        for failure in failures:
            if failure is not None:
                raise failure

    def close(self) -> None:
        """End the helper threads."""
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None


def _work(operate: Callable[..., Any], waiting: deque[Job]) -> None:
    while True:
        try:
            job = waiting.popleft()
        except IndexError:
            return
        operate(*job)
