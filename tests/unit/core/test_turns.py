"""Slots against the ids that arrived."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.core.turns import out_of_turn


def shared_out(frames: int, sets: int, updates: int, *, offset: int = 0) -> list[list[int]]:
    received: list[list[int]] = [[] for _ in range(sets)]
    for frame in range(frames):
        received[(frame + offset) // updates % sets].append(frame + 1)
    return received


@given(st.integers(0, 200), st.integers(1, 8), st.integers(1, 5), st.integers(0, 50))
def test_what_the_distributor_does_is_in_turn(frames: int, sets: int, updates: int, offset: int) -> None:
    assert out_of_turn(shared_out(frames, sets, updates, offset=offset), updates=updates) is None


@pytest.mark.parametrize(
    ("received", "updates", "frame"),
    [
        ([[1, 3], [2, 5], [4]], 1, 3),
        ([[1, 2], [3, 4]], 1, 2),
        ([[1, 2, 5], [3, 4, 6]], 2, 5),
        ([[1, 4], [3, 6], [2, 5]], 1, 2),
    ],
)
def test_the_first_frame_out_of_turn_is_named(received: list[list[int]], updates: int, frame: int) -> None:
    assert out_of_turn(received, updates=updates) == frame


def test_two_ranks_that_changed_places_are_seen() -> None:
    received = shared_out(40, 4, 1)
    received[1], received[2] = received[2], received[1]
    assert out_of_turn(received, updates=1) == 2
