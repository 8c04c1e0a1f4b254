"""A mirror that stands for days, with a source, a mirror and looks that only say what they are told to."""

from typing import Any

import pytest

from beamcast.members import standing
from beamcast.members.standing import CONNECT_S, STILL_S, MirroredChannel, StandingMirror
from beamcast.pva.endpoint import Endpoint

SOURCE = Endpoint("192.0.2.1", 5075)


class Mirror:
    def __init__(self) -> None:
        self.is_serving = True
        self.received = 0

    def serving(self, channel: str) -> bool:
        return self.is_serving

    def counters(self, channel: str) -> dict[str, int]:
        return {"nReceived": self.received, "nOverruns": 0}

    def serve(self, channel: str, **how: Any) -> None:
        pass


class Look:
    """One look at the source: None until `says` is set."""

    def __init__(self, channel: str) -> None:
        self.says: bool | None = None
        self.closed = False
        LOOKS.append(self)

    def sends(self) -> bool | None:
        return self.says

    def close(self) -> None:
        self.closed = True


class Names:
    looks = 0

    def serve_at(self, channels: dict[str, Endpoint]) -> None:
        pass

    def revive(self) -> bool:
        self.looks += 1
        return False


LOOKS: list[Look] = []


@pytest.fixture
def stood(monkeypatch: pytest.MonkeyPatch) -> tuple[StandingMirror, Mirror, list[str]]:
    LOOKS.clear()
    monkeypatch.setattr(standing, "SecondLook", Look)
    mirror, again = Mirror(), []
    one = StandingMirror(
        mirror,  # type: ignore[arg-type]
        [MirroredChannel("raw", "image")],
        names=Names(),  # type: ignore[arg-type]
        servers=[SOURCE],
        begin_again=lambda: again.append("again"),
    )
    monkeypatch.setattr(one, "_find", lambda source: SOURCE)
    return one, mirror, again


def test_its_name_server_is_looked_after(
    stood: tuple[StandingMirror, Mirror, list[str]],
) -> None:
    one, _, _ = stood
    one.tick(0.0)
    one.tick(0.5)
    assert one._names is not None
    assert one._names.looks == 2  # type: ignore[attr-defined]


def test_a_channel_that_stands_still_while_its_source_goes_on_begins_again(
    stood: tuple[StandingMirror, Mirror, list[str]],
) -> None:
    one, _, again = stood
    one.tick(0.0)
    one.tick(STILL_S)
    assert len(LOOKS) == 1
    LOOKS[0].says = True
    one.tick(STILL_S + 1)
    assert again == ["again"]


def test_a_look_that_was_begun_before_the_stream_went_on_says_nothing_of_its_end(
    stood: tuple[StandingMirror, Mirror, list[str]],
) -> None:
    one, mirror, again = stood
    one.tick(0.0)
    one.tick(STILL_S)
    mirror.received = 300  # and the look sees that frames come
    LOOKS[0].says = True
    one.tick(STILL_S + 1)
    assert LOOKS[0].closed
    one.tick(2 * STILL_S + 1)
    assert len(LOOKS) == 2
    assert again == []


def test_a_source_that_was_lost_soon_after_it_came_is_not_waited_for(
    stood: tuple[StandingMirror, Mirror, list[str]],
) -> None:
    one, mirror, again = stood
    mirror.is_serving = False
    one.tick(100.0)
    mirror.is_serving = True
    one.tick(100.1)
    mirror.is_serving = False
    one.tick(103.0)
    assert CONNECT_S > 103.0 - 100.0
    assert again == ["again"]
