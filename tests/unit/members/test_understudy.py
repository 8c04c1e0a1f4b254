"""The understudy of a rank: waits, begins on its cue, and goes when nobody needs it."""

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from beamcast.members.host.understudy import Actor, enter

UNDERSTUDY = """
import os, sys
from beamcast.members.host.understudy import wait_for_cue
(wait,) = [int(word.split("=")[1]) for word in sys.argv if word.startswith("--understudy")]
cue = wait_for_cue(wait)
os.write(int(os.environ["BEAMCAST_PULSE"]), f"{cue}".encode())
"""


def start(
    words: Sequence[str], environment: dict[str, str], pass_fds: Sequence[int]
) -> "subprocess.Popen[Any]":
    import os

    return subprocess.Popen(
        [sys.executable, "-c", UNDERSTUDY, *words], env={**os.environ, **environment}, pass_fds=pass_fds
    )


@pytest.fixture
def waiting() -> Actor:
    return enter(start, generation=None)


def said(actor: Actor) -> str:
    import os

    return os.read(actor.pulse, 100).decode()


def test_it_begins_as_the_generation_that_it_is_told(waiting: Actor) -> None:
    waiting.begin(7, -11)
    assert said(waiting) == "(7, -11)"
    assert waiting.process.wait(10) == 0
    waiting.end()


def test_it_ends_when_its_keeper_does_not_need_it(waiting: Actor) -> None:
    waiting.end()
    assert waiting.process.poll() is not None


def test_one_that_has_died_can_not_begin(waiting: Actor) -> None:
    waiting.process.kill()
    waiting.process.wait()
    with pytest.raises(OSError, match="pipe"):
        waiting.begin(1, None)
    waiting.end()
