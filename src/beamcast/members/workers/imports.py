"""What each of Parsl's workers needs, to be imported before the first of them is forked.

The process that imports it, `multiprocessing`'s server, dies with the pool that has started it, and its children die
with it. By itself it waits for the end of all of them, and one of them may wait for ever for a pool that was killed.
"""

import os

from beamcast.members.parent import die_with_parent
from beamcast.members.workers.parsl_only import leave_out_sdk
from beamcast.members.workers.pool import POOL_VARIABLE

leave_out_sdk()

import parsl.executors.high_throughput.process_worker_pool  # noqa: E402, F401

import beamcast.members.host.seat  # noqa: E402, F401


def die_with_pool(pool: int) -> None:
    """For the server, whose parent is this process."""
    server = os.getpid()

    def die_with_server() -> None:
        if os.getppid() == server:  # and not in a process that a child has forked
            die_with_parent(server)

    die_with_parent(pool)
    os.register_at_fork(after_in_child=die_with_server)


if os.environ.get(POOL_VARIABLE) == str(os.getppid()):
    die_with_pool(os.getppid())
