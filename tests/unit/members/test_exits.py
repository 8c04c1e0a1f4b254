"""How a process ended, in words."""

import signal

import pytest

from beamcast.members.host.exits import EXIT_UNWELCOME, end_in_words


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (-signal.SIGSEGV, "ended by signal 11 (SIGSEGV)"),
        (128 + signal.SIGKILL, "ended by signal 9 (SIGKILL)"),
        (-99, "ended by signal 99"),
        (3, "ended with exit status 3"),
        (200, "ended with exit status 200"),
        (0, "ended with exit status 0 before its work was done: does its processor call os._exit?"),
        (EXIT_UNWELCOME, "was not wanted by the controller (exit status 4)"),
    ],
)
def test_an_end_is_told_in_words(status: int, words: str) -> None:
    assert end_in_words(status) == words
