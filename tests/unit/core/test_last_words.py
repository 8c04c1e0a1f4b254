"""What a process had to say before it ended."""

import pytest

from beamcast.core.last_words import last_words

TRACEBACK = """Traceback (most recent call last):
  File "x.py", line 3, in <module>
    main()
"""


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", ""),
        ("2026-12-01 INFO x: begins\nbusy\n", ""),
        (
            "busy\nerror: no free TCP port on 127.0.0.1. widen the port range\n",
            "no free TCP port on 127.0.0.1. widen the port range",
        ),
        (f"{TRACEBACK}beamcast.core.errors.WorldError: no free port\nbye\n", "no free port"),
        (f"{TRACEBACK}KeyError: 'x'\n", "KeyError: 'x'"),
        (f"{TRACEBACK}numpy.exceptions.AxisError: axis 3\n", "AxisError: axis 3"),
        (f"{TRACEBACK}KeyboardInterrupt\n", "KeyboardInterrupt"),
        (
            'Fatal Python error: Segmentation fault\n\nThread 0x1:\n  File "x.py", line 3 in process\n',
            "Fatal Python error: Segmentation fault",
        ),
        ("error: first\nerror: second\n", "second"),
        ("an Error: in a sentence\n", ""),
    ],
)
def test_the_last_error_of_a_log_is_found(log: str, words: str) -> None:
    """P17."""
    assert last_words(log) == words
