"""Who listens to a server: how many clients are connected to its port.

A result server that took the place of another one waits a moment for the clients of that one. What it published before
they are back, they would never get.
"""

import logging
import os
import time
from collections.abc import Callable

import psutil

logger = logging.getLogger(__name__)

# pvaccess clients look again after 1, 2, 4 … s; who has not come back then has gone.
WAIT_S = 5.0
# A connection is there some milliseconds before its monitor.
SETTLE_S = 0.3
# How often they are counted.
COUNT_PERIOD_S = 0.5


def listeners(port: int) -> int:
    """Clients connected to a port of this process. Takes about a millisecond."""
    connections = psutil.Process(os.getpid()).net_connections("tcp")
    return sum(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port for one in connections)


def wait_for_listeners(count: int, *, port: int, should_stop: Callable[[], bool]) -> None:
    """Wait until as many are connected, and receive; not for longer than they may need."""
    deadline = time.monotonic() + WAIT_S
    while listeners(port) < count and time.monotonic() < deadline:
        if should_stop():
            return
        time.sleep(0.05)
    if count:
        logger.info("of %d clients %d are back", count, listeners(port))
        time.sleep(SETTLE_S)
