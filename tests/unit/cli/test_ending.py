"""How requests to end reach a run that is being started."""

import threading
from typing import Any

import pytest

from beamcast.cli import ending as ending_module
from beamcast.cli.ending import Ending


class FakeController:
    def __init__(self) -> None:
        self.asked = 0

    def ask_stop(self) -> None:
        self.asked += 1


class Left(BaseException):
    """The process has ended."""


@pytest.fixture
def leaving(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit statuses with which the process has left."""
    statuses: list[int] = []

    def leave(status: int) -> None:
        statuses.append(status)
        raise Left

    monkeypatch.setattr(ending_module, "leave", leave)
    monkeypatch.setattr(ending_module, "end_children", lambda: None)
    monkeypatch.setattr(ending_module, "tell", lambda text: None)
    return statuses


def test_each_request_reaches_the_controller_and_ctrl_backslash_counts_for_all(leaving: list[int]) -> None:
    controller: Any = FakeController()
    ending = Ending()
    ending.begin(controller, lambda report: 0)
    ending.asked(1)
    assert controller.asked == 1
    ending.asked(2)
    assert controller.asked == 2
    ending.asked(3)
    assert controller.asked >= 3
    assert leaving == []


def test_before_the_run_has_begun_it_leaves_at_once_and_nothing_begins_any_more(leaving: list[int]) -> None:
    removed, begun = threading.Event(), threading.Event()
    ending = Ending()
    with pytest.raises(Left):
        ending.asked(1)
    assert leaving == [130]

    def go_on() -> None:
        ending.gives_back(removed.set)
        begun.set()

    threading.Thread(target=go_on, daemon=True).start()
    assert removed.wait(5)
    assert not begun.wait(0.05)
