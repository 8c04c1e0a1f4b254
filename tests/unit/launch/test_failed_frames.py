"""Failed frames in the report and on the disk: how many, and what is told of the others."""

import logging
from pathlib import Path

import pytest

from beamcast.config.load import load_site, load_workflow
from beamcast.launch.accounts import MAX_KEPT_FAILED_FRAMES, MAX_TRACEBACK_FILES, Accounts
from beamcast.launch.plan import RunPlan
from beamcast.members.dispatcher import spill
from beamcast.members.dispatcher.spill import MAX_KEPT_FRAMES, SpillStore
from beamcast.pva.messages import FailedFrame, Heartbeat, MemberId

WORKFLOW = Path(__file__).parents[3] / "examples" / "first-light" / "workflow.toml"


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    plan = RunPlan(run="r", loaded=load_workflow(WORKFLOW), site=load_site("local"))
    return Accounts.open(plan, tmp_path)


def beat(*keys: int, error: str = "ZeroDivisionError: no") -> Heartbeat:
    frames = tuple(FailedFrame(key=key, traceback=f"File x\n{error}\n") for key in keys)
    return Heartbeat(
        member=MemberId(kind="rank", pool="stats", rank=0), state="running", sequence=1, failed_frames=frames
    )


def test_tracebacks_are_written_up_to_a_number_and_that_is_told(
    accounts: Accounts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """P16: there was a file for every failed frame."""
    with caplog.at_level(logging.WARNING):
        accounts.enter(beat(0, error="KeyError: 'a'"), now=0.0)
        for key in range(1, 2 * MAX_KEPT_FAILED_FRAMES):
            accounts.enter(beat(key), now=0.0)
    assert len(list((tmp_path / "failed").iterdir())) == MAX_TRACEBACK_FILES
    assert len(accounts.failed_frames) == MAX_KEPT_FAILED_FRAMES
    assert accounts.failed_frames[-1].traceback_file == "failed/stats-0-1.txt", "that of the same error"
    assert (tmp_path / "failed" / "stats-0-1.txt").read_text().endswith("ZeroDivisionError: no\n")
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        f"failed/ holds {MAX_TRACEBACK_FILES} tracebacks"
    ]


def test_an_error_that_comes_later_has_no_file_but_its_line(accounts: Accounts) -> None:
    accounts.enter(beat(*range(MAX_TRACEBACK_FILES)), now=0.0)
    accounts.enter(beat(1000, error="KeyError: 'a'"), now=0.0)
    assert (accounts.failed_frames[-1].error, accounts.failed_frames[-1].traceback_file) == (
        "KeyError: 'a'",
        "",
    )


def test_a_heartbeat_that_comes_again_counts_once(accounts: Accounts) -> None:
    for _ in range(2):
        accounts.enter(beat(5), now=0.0)
    assert len(accounts.failed_frames) == 1


def test_frames_that_were_given_up_are_kept_up_to_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each held the disk space of its payload, without a limit."""
    (tmp_path / "7.frame").touch()
    monkeypatch.setattr(spill, "MAX_KEPT_FRAMES", 3)
    store, asked = SpillStore(tmp_path, lock=None, done=None), []  # type: ignore[arg-type]
    monkeypatch.setattr(store, "_ask", lambda what, key, pv: asked.append(key))
    with caplog.at_level(logging.WARNING):
        for key in range(10, 15):
            store.keep(key, None)
    assert asked == [10, 11]
    assert len(caplog.records) == 1
    assert MAX_KEPT_FRAMES == 100
