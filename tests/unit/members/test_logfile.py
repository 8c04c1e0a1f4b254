import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from beamcast.members.logfile import BoundedLog, pump_log


def test_a_full_log_is_put_aside_and_the_end_of_the_output_is_kept(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "x.log", max_bytes=1000)
    for number in range(100):
        log.write(b"%099d\n" % number)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.log", "x.log.1"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000
    lines = (tmp_path / "x.log").read_text().splitlines()
    assert lines[0] == "(the log was full: what came before is in x.log.1)"
    assert int(lines[-1]) == 99


def test_a_log_that_can_not_be_written_does_not_stop_its_member(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "gone" / "x.log")
    log.write(b"hello\n")
    assert not (tmp_path / "gone").exists()


def test_what_a_process_prints_without_end_goes_through_the_pump_bounded(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    writer = pump_log(BoundedLog(path, max_bytes=100_000))
    code = "for n in range(20000): print(n, 'x' * 90)\nprint('last', flush=True)"
    subprocess.run([sys.executable, "-c", code], stdout=writer, timeout=30, check=True)
    os.close(writer)
    deadline = time.monotonic() + 10
    while not path.read_text().endswith("last\n"):
        if time.monotonic() > deadline:
            pytest.fail("the end of the output did not arrive")
        time.sleep(0.01)
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) <= 200_000
