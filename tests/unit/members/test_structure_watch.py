"""When a source is looked at again: ids come and no frames."""

from typing import Any

import pytest

from beamcast.core.errors import DataError, WorldError
from beamcast.members import structure
from beamcast.members.structure import LOOK_AGAIN_S, STALLED_S, StructureWatch


class Update:
    def __init__(self, *fields: str) -> None:
        self._fields = fields

    def getStructureDict(self) -> dict[str, str]:  # noqa: N802 - pvaccess's name
        return dict.fromkeys(self._fields, "int")


class Bench:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.looks = 100.0, 0
        self.present: Update | None = Update("a", "b")
        self.watch = StructureWatch("det:image", clock=lambda: self.now)
        self.watch.begin(self.present)
        monkeypatch.setattr(structure, "look_at", self._look)

    def _look(self, channel: str, **_: Any) -> Update:
        self.looks += 1
        if self.present is None:
            raise WorldError("no answer")
        return self.present

    def after(self, seconds: float) -> None:
        self.now += seconds
        self.watch.check(lambda: False)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_nobody_looks_while_frames_pass_or_nothing_is_sent(bench: Bench) -> None:
    for seen, passed in ((False, False), (True, True), (False, True)):
        bench.watch.note(seen=seen, passed=passed)
        bench.after(10 * STALLED_S)
    bench.watch.note(seen=True, passed=False)
    bench.after(STALLED_S / 2)
    bench.watch.note(seen=True, passed=True)
    bench.after(STALLED_S)
    assert bench.looks == 0


def test_ids_without_frames_and_another_structure_are_an_error(bench: Bench) -> None:
    bench.watch.note(seen=True, passed=False)
    bench.present = Update("a", "c")
    with pytest.raises(DataError, match="the structure of det:image has changed"):
        bench.after(STALLED_S)


def test_a_source_that_is_gone_is_left_alone_until_ids_are_seen_again(bench: Bench) -> None:
    bench.watch.note(seen=True, passed=False)
    bench.present = None
    for _ in range(100):
        bench.after(1.0)
        bench.watch.note(seen=False, passed=False)
    assert bench.looks == 1
    bench.watch.note(seen=True, passed=False)
    bench.present = Update("c")
    with pytest.raises(DataError):
        bench.after(STALLED_S)


def test_with_the_same_structure_it_is_looked_at_now_and_then(bench: Bench) -> None:
    for _ in range(int(2.5 * LOOK_AGAIN_S)):
        bench.watch.note(seen=True, passed=False)
        bench.after(1.0)
    assert bench.looks == 3
