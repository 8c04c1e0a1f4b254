"""`beamcast list` and `logs`: what is said of the runs of a folder."""

import io
import os
import socket
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from beamcast.cli.run_logs import Tail, has_ended
from beamcast.cli.runs import entries_of
from beamcast.launch.rundir.books import BOOKS_FILE
from beamcast.launch.rundir.lease import LEASE_FILE, RunLease
from beamcast.launch.rundir.ownership import Lease
from beamcast.launch.rundir.rundir import REPORT_FILE, STATE_FILE
from beamcast.observe.report import Frames, Report, SourceReport, Throughput, Timing, write_report
from beamcast.observe.runs import RunEntry, runs_table


def report(state: str, **frames: int) -> Report:
    return Report(
        run="scan",
        state=state,
        reason="all frames sent",
        workflow="w",
        site="local",
        delivery="at-most-once",
        result_channels=(),
        name_server="",
        frames=Frames(**frames),
        missing=(),
        failed_frames=(),
        pools=(),
        source=SourceReport(),
        timing_s=Timing(),
        throughput=Throughput(),
        versions={},
        began="2026-12-01T02:41:51+00:00",
    )


def dead_lease(folder: Path) -> None:
    """As a killed controller on this host leaves it."""
    folder.mkdir()
    gone = Lease(
        run="r", host=socket.gethostname(), boot="an earlier one", pid=1, started=0.0, epoch=1, token="t"
    )
    (folder / LEASE_FILE).write_bytes(msgspec.json.encode(gone))


def test_every_run_of_a_folder_is_listed_with_what_came_of_it(tmp_path: Path) -> None:
    """P8."""
    for name, final in (
        ("good", report("done", source=9, collected=9)),
        ("lossy", report("done", source=9, collected=7, lost=2)),
    ):
        (tmp_path / name).mkdir()
        write_report(tmp_path / name / REPORT_FILE, final)
    dead_lease(tmp_path / "killed")
    dead_lease(tmp_path / "resumable")
    (tmp_path / "resumable" / BOOKS_FILE).write_bytes(b"")
    write_report(tmp_path / "resumable" / STATE_FILE, report("streaming", source=5, lost=1))
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / REPORT_FILE).write_text("{}")
    (tmp_path / "no-run").mkdir()
    with RunLease(tmp_path / "live", run="live"):
        write_report(tmp_path / "live" / STATE_FILE, report("streaming", source=5, lost=1))
        entries = {entry.run: entry for entry in entries_of(tmp_path)}
    assert set(entries) == {"good", "lossy", "killed", "resumable", "odd", "live"}
    shown = {name: (one.state, one.frames, one.lost, one.verdict) for name, one in entries.items()}
    assert shown["good"] == ("done", 9, 0, "good: all 9 frames came through")
    assert shown["lossy"][:3] == ("done", 9, 2)
    assert shown["lossy"][3].startswith("lost 2 of 9 frames")
    assert shown["killed"] == ("dead", None, None, "its controller has died, without a report")
    assert shown["resumable"][:3] == ("dead", 5, None)
    assert shown["resumable"][3] == (
        f"its controller has died; `beamcast resume {tmp_path / 'resumable'}` goes on with it"
    )
    assert shown["live"] == ("streaming", 5, None, f"goes on: pid {os.getpid()} on {socket.gethostname()}")
    assert shown["odd"][0] == "unknown"
    assert entries["good"].began == "2026-12-01T02:41:51+00:00"
    assert entries["killed"].began
    assert entries_of(tmp_path / "nothing") == []


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_list_fits_the_screen(width: int) -> None:
    entries = [
        RunEntry(
            run=f"scan-{n}",
            folder="",
            state="done",
            began="",
            frames=10**6,
            lost=3,
            verdict="good: " + "x" * 99,
        )
        for n in range(3)
    ]
    out = io.StringIO()
    Console(file=out, width=width).print(runs_table(entries, width=width, dates=["2026-12-01 02:41"] * 3))
    lines = out.getvalue().splitlines()
    assert len(lines) == 4
    assert all(len(line) <= width for line in lines)
    assert all("scan-" in line and "good:" in line for line in lines[1:])


def test_a_log_is_followed_over_the_moment_when_it_was_full(tmp_path: Path) -> None:
    path = tmp_path / "stats-0.log"
    path.write_text("one\ntw")
    with Tail(path) as tail:
        assert list(tail.lines(last=False)) == ["one"]
        with path.open("a") as file:
            file.write("o\nthree\n")
        path.rename(tmp_path / "stats-0.log.1")
        path.write_text("four\nend")
        assert list(tail.lines(last=False)) == ["two", "three", "four"]
        assert list(tail.lines(last=True)) == ["end"]
    with Tail(path) as again:
        assert list(again.lines(last=True)) == ["one", "two", "three", "four", "end"]


def test_following_ends_with_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with RunLease(folder, run="run"):
        assert not has_ended(folder)
    assert has_ended(folder), "its controller has left"
    dead_lease(tmp_path / "killed")
    assert has_ended(tmp_path / "killed")
