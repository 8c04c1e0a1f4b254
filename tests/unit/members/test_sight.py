"""Whether the source is there, and whether its ids are seen."""

import pytest

from beamcast.members.presence import Presence
from beamcast.members.sight import BLIND_S, MADE_ANEW_AFTER_S, Sight


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class FakeWitness:
    reopened = 0

    def reopen(self) -> None:
        self.reopened += 1


def test_a_witness_that_sees_nothing_while_frames_come_is_made_anew_and_told() -> None:
    """I1."""
    clock, witness = Clock(), FakeWitness()
    sight = Sight(witness, "det", clock=clock)  # type: ignore[arg-type]
    sight.note(seen=True, passed=True)
    clock.now += 60
    sight.note(seen=False, passed=False)
    assert not sight.blind, "a source that rests"
    sight.note(seen=False, passed=True)
    clock.now += BLIND_S + 0.1
    sight.note(seen=False, passed=False)
    assert sight.blind
    assert witness.reopened == 1
    clock.now += 1
    sight.note(seen=False, passed=True)
    assert witness.reopened == 1
    clock.now += MADE_ANEW_AFTER_S
    sight.note(seen=False, passed=True)
    assert witness.reopened == 2
    sight.note(seen=True, passed=False)
    assert not sight.blind


def test_absences_are_counted_and_told_while_they_last() -> None:
    """P6."""
    clock = Clock()
    presence = Presence(clock=clock, wall_clock=lambda: 1000.0 + clock.now)
    assert not presence.look(True)
    assert presence.facts() == {"away_since": 0.0, "absences": 0.0, "away_s": 0.0}
    assert presence.look(False)
    clock.now += 30
    assert not presence.look(False)
    assert presence.facts() == pytest.approx({"away_since": 1100.0, "absences": 1.0, "away_s": 30.0})
    assert presence.look(True)
    clock.now += 5
    assert presence.facts() == pytest.approx({"away_since": 0.0, "absences": 1.0, "away_s": 30.0})
