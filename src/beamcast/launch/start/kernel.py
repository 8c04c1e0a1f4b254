"""Parsl's kernel, ended within a time.

The choice: Parsl ends its parts one after the other and waits for each without a limit: for its interchange's answer (a
process that may be dead), for the sockets of ZeroMQ (which keep what was not sent). So it does that on a thread of its
own; when its time is over, what it has started is ended by us, and nothing waits for it.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

logger = logging.getLogger(__name__)

# Ending an interchange in good order takes a tenth of a second; Parsl itself allows it ten.
CLEANUP_S = 8.0


def end_kernel(kernel: Any, *, within_s: float = CLEANUP_S) -> None:
    """Have Parsl's DataFlowKernel end everything, and end its interchanges where it takes longer."""
    for executor in kernel.executors.values():
        # Blocks are given back by us. Parsl would ask the interchange about them, and wait for ever for a dead one.
        executor.scale_in_facade = _nothing_to_scale_in
    if not finished(kernel.cleanup, within_s=within_s, name="parsl-cleanup"):
        logger.warning("Parsl has not ended within %g s; its interchange is ended by us", within_s)
        end_interchanges(kernel)


def end_interchanges(kernel: Any) -> None:
    """End the interchange processes without waiting; from any thread."""
    for executor in tuple(kernel.executors.values()):
        process = getattr(executor, "interchange_proc", None)
        if process is not None:
            with suppress(OSError):
                process.kill()


def finished(work: Callable[[], object], *, within_s: float, name: str) -> bool:
    """Do something that may hang, on a thread of its own; whether it was done in time. What it raises is logged."""

    def worked() -> None:
        try:
            work()
        except Exception as error:
            logger.warning("%s: %s: %s", name, type(error).__name__, error, exc_info=True)

    thread = threading.Thread(target=worked, name=name, daemon=True)
    thread.start()
    thread.join(within_s)
    return not thread.is_alive()


def _nothing_to_scale_in(*_: object, **__: object) -> list[str]:
    return []
