"""What processes with large frames are started with."""

import os
import subprocess
import sys

import pytest

from beamcast.pools.memory import keep_freed_memory, memory_environment

NAME = "glibc.cpu.x86_non_temporal_threshold"


def test_large_copies_bypass_the_caches() -> None:
    assert memory_environment({}) == {"GLIBC_TUNABLES": f"{NAME}=0x400000"}


def test_what_the_user_has_set_stays() -> None:
    merged = memory_environment({"GLIBC_TUNABLES": "glibc.malloc.check=1"})
    assert merged == {"GLIBC_TUNABLES": f"glibc.malloc.check=1:{NAME}=0x400000"}
    assert memory_environment({"GLIBC_TUNABLES": f"{NAME}=0x800000"}) == {}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_a_process_starts_with_it_without_a_word() -> None:
    environment = {**os.environ, **memory_environment(os.environ)}
    code = f"import {keep_freed_memory.__module__} as memory; memory.keep_freed_memory()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
