"""Parsl's workers are forked from a process that has imported what they need, and no more."""

import subprocess
import sys

from beamcast.members.workers.pool import parsl_program


def in_a_process_of_its_own(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()


def test_what_workers_need_is_imported_without_threads_and_without_the_sdk() -> None:
    said = in_a_process_of_its_own(
        "import sys, threading, beamcast.members.workers.imports\n"
        "print(threading.active_count(), len(__import__('os').listdir('/proc/self/task')),"
        " 'parsl.executors.high_throughput.process_worker_pool' in sys.modules, 'globus_sdk' in sys.modules,"
        " 'pvaccess' in sys.modules)"
    )
    assert said == "1 1 True False False", "a process with threads can't be forked safely"


def test_parsls_pool_makes_its_workers_in_this_way() -> None:
    said = in_a_process_of_its_own(
        "from beamcast.members.workers.pool import PROGRAM, fork_workers\n"
        "fork_workers()\n"
        "import importlib\n"
        "print(importlib.import_module(PROGRAM).SpawnContext.get_start_method())"
    )
    assert said == "forkserver"


def test_parsls_program_has_what_its_workers_look_for() -> None:
    assert {"worker", "Manager"} <= set(parsl_program().co_names)


def test_the_sdk_is_left_out_for_a_while_only() -> None:
    said = in_a_process_of_its_own(
        "import sys\n"
        "from beamcast.members.workers.parsl_only import SDK, without_sdk\n"
        "with without_sdk():\n"
        "    try: __import__(SDK)\n"
        "    except ImportError: print('left out')\n"
        "print(SDK in sys.modules, __import__(SDK).__name__ == SDK)\n"
        "with without_sdk(): print(SDK in sys.modules)"
    )
    assert said.split("\n") == ["left out", "False True", "True"]
