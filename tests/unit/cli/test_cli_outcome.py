"""The words of errors."""

from beamcast.cli.outcome import error_text
from beamcast.core.errors import ConfigError, Problem


def test_every_problem_has_a_line_and_notes_follow() -> None:
    error = ConfigError.of([Problem("first", "a.toml: x"), Problem("second", "a.toml: y", "Do z")])
    error.add_note("Traceback of the user's code")
    assert error_text(error, debug=True).splitlines() == [
        "error: a.toml: x: first",
        "a.toml: y: second. Do z",
        "Traceback of the user's code",
    ]
