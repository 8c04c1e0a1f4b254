"""Inputs whose monitors are dead, with channels that say what they are told to."""

import pytest

from beamcast.core.ids import FrameId
from beamcast.pools.inputs import Inputs
from beamcast.pva.messages import Input
from beamcast.pva.monitor import FIRST_VALUE_S
from unit.fake_channels import FAKE_CHANNELS as CHANNELS
from unit.fake_channels import put_in_place


@pytest.fixture
def inputs(monkeypatch: pytest.MonkeyPatch) -> Inputs:
    """Two channels; the second one was away, and its monitor is dead."""
    put_in_place(monkeypatch)
    one = Inputs(queue_length=10, id_fields=("uniqueId",), epoch=0)
    one.follow(tuple(Input(channel=f"c{number}", request="field()", producer=number) for number in range(2)))
    for channel in CHANNELS:
        channel.received = 5
    CHANNELS[1].connected = False
    one.look(0.0)
    CHANNELS[1].connected = True
    one.look(1.0)
    return one


def test_only_the_dead_one_is_monitored_anew_and_goes_on_in_its_epoch(inputs: Inputs) -> None:
    lives, tracker = inputs.channels[0], inputs.channels[1].tracker
    tracker.observe(FrameId(7))
    inputs.look(1.1 + FIRST_VALUE_S)
    inputs.revive()
    assert [each.stopped for each in CHANNELS] == [False, True, False]
    assert inputs.channels[0] is lives
    assert inputs.channels[1].tracker is tracker
    assert inputs.counters()[0] == 10, "what the dead one had received counts, once"
    inputs.look(100.0)
    assert not inputs.dead


def test_what_came_through_it_is_taken_first(inputs: Inputs) -> None:
    inputs.channels[1].queue.append("a frame")
    inputs.look(1.1 + FIRST_VALUE_S)
    assert not inputs.dead
    inputs.channels[1].queue.clear()
    inputs.look(1.2 + FIRST_VALUE_S)
    assert len(inputs.dead) == 1


def test_one_that_was_replaced_meanwhile_is_left_alone(inputs: Inputs) -> None:
    inputs.look(1.1 + FIRST_VALUE_S)
    dead = list(inputs.dead)
    inputs.revive()
    inputs.dead = dead  # as a look on another thread leaves it that had begun before
    inputs.revive()
    assert len(CHANNELS) == 3
    assert inputs.counters()[0] == 10


def test_who_leaves_a_distributor_does_so_right_after_an_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """P14: what had been sent to it and was still on its way was lost."""
    put_in_place(monkeypatch)
    one = Inputs(queue_length=10, id_fields=("uniqueId",), epoch=0)
    one.follow(
        (Input(channel="c", request="field(_[pydistributor=set:0])"), Input(channel="d", request="field()"))
    )
    mine, other = CHANNELS
    mine.received, naps = 5, []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        assert not mine.stopped
        mine.received += len(naps) == 3

    monkeypatch.setattr("beamcast.pools.inputs.time.sleep", nap)
    one.leave()
    assert (mine.stopped, other.stopped, len(naps)) == (True, True, 3)


def test_who_leaves_a_stream_that_pauses_does_not_wait_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place(monkeypatch)
    monkeypatch.setattr("beamcast.pools.inputs.TURN_S", 0.01)
    one = Inputs(queue_length=10, id_fields=("uniqueId",), epoch=0)
    one.follow((Input(channel="c", request="field(_[pydistributor=set:0])"),))
    one.leave()
    assert CHANNELS[0].stopped
