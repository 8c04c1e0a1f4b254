"""A block of this machine ends with all of its processes where there is no `ps`, as in slim containers."""

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from beamcast.config.load import load_site
from beamcast.launch.start.providers import make_provider

pytestmark = pytest.mark.system


def test_a_block_ends_without_ps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("bash", "sh", "sleep", "seq", "getconf", "grep"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / "bin" / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    provider = make_provider(load_site("local"), worker_init="")
    provider.script_dir = str(tmp_path)
    job = provider.submit("sleep 600", 1, "block")
    group = os.getpgid(int(job))
    assert group != os.getpgrp()
    assert provider.cancel([job]) == [True]
    deadline = time.monotonic() + 20
    while group in groups():
        assert time.monotonic() < deadline, "the block's processes stay"
        time.sleep(0.05)
    assert provider.cancel([job]) == [True], "once more does no harm"


def groups() -> set[int]:
    """The process groups in which anybody lives."""
    found = set()
    for process in psutil.process_iter(["status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE:
            with suppress(ProcessLookupError):
                found.add(os.getpgid(process.pid))
    return found
