"""Parsl's worker pool, as a program that starts quickly.

The choice: Parsl starts each worker, and a helper, as a new interpreter that imports all of Parsl: half a second of
processor time each, and most of the time until a rank starts. Here they are forked from a server that has imported it
once, has no threads and does nothing else (`multiprocessing`'s forkserver). For that Parsl's program becomes this
module, in place of being called by it: a worker imports the main module again, and looks there for Parsl's functions.
"""

import importlib.abc
import importlib.util
import multiprocessing
import os
from types import CodeType

from beamcast.members.workers.parsl_only import leave_out_sdk

PROGRAM = "parsl.executors.high_throughput.process_worker_pool"
# Imported by the server alone, from which workers are forked; the variable tells it whom it belongs to.
POOL_VARIABLE = "BEAMCAST_POOL_PID"
WORKER_IMPORTS = "beamcast.members.workers.imports"


def parsl_program() -> CodeType:
    """Parsl's program, compiled."""
    spec = importlib.util.find_spec(PROGRAM)
    assert spec is not None
    assert isinstance(spec.loader, importlib.abc.InspectLoader)
    code = spec.loader.get_code(PROGRAM)
    assert code is not None
    return code


def fork_workers() -> None:
    """Have Parsl's pool in this process make its workers and its helper in this way."""
    leave_out_sdk()
    import parsl.multiprocessing

    os.environ[POOL_VARIABLE] = str(os.getpid())
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([WORKER_IMPORTS])
    parsl.multiprocessing.SpawnContext = context


if __name__ == "__main__":
    fork_workers()
# The second is the name that `multiprocessing` gives the main module in a worker.
if __name__ in ("__main__", "__mp_main__"):
    exec(parsl_program())
