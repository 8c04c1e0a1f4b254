"""Exit statuses and the words of errors."""

import msgspec
import pytest

from beamcast.cli.outcome import error_text, lost_text, run_status
from beamcast.core.errors import ConfigError, Problem, UsageError, WorldError
from beamcast.observe.report import Frames, Report, SourceReport, Throughput, Timing


def report(state: str = "done", lost: int = 0) -> Report:
    return Report(
        run="r1",
        state=state,
        reason="all frames sent",
        workflow="w",
        site="local",
        delivery="at-most-once",
        result_channels=(),
        name_server="127.0.0.1:1",
        frames=Frames(source=100, collected=100 - lost, lost=lost),
        missing=(),
        failed_frames=(),
        pools=(),
        source=SourceReport(),
        timing_s=Timing(),
        throughput=Throughput(),
        versions={},
    )


@pytest.mark.parametrize(
    ("state", "lost", "allow_lost", "error", "status"),
    [
        ("done", 0, 0, None, 0),
        ("done", 3, 3, None, 0),
        ("done", 4, 3, None, 3),
        ("failed", 0, 0, WorldError("gone"), 1),
        ("failed", 0, 0, UsageError("no such class"), 2),
        ("failed", 0, 0, ConfigError("bad"), 2),
        ("cancelled", 0, 0, None, 1),
    ],
)
def test_the_exit_status_says_what_came_of_a_run(
    state: str, lost: int, allow_lost: int, error: UsageError | WorldError | None, status: int
) -> None:
    assert run_status(report(state, lost), allow_lost=allow_lost, error=error) == status


def test_every_problem_has_a_line_and_notes_follow() -> None:
    error = ConfigError.of([Problem("first", "a.toml: x"), Problem("second", "a.toml: y", "Do z")])
    error.add_note("Traceback of the user's code")
    assert error_text(error, debug=True).splitlines() == [
        "error: a.toml: x: first",
        "a.toml: y: second. Do z",
        "Traceback of the user's code",
    ]


def test_lost_frames_are_told_with_the_limit() -> None:
    text = lost_text(msgspec.structs.replace(report(), frames=Frames(source=9, lost=4)), allow_lost=1)
    assert text.startswith("error: 4 of 9 frames were lost, and the workflow allows 1")
