"""How many frames a queue of so many bytes holds."""

import pytest

from beamcast.pools.inputs import Inputs, frames_that_fit


@pytest.mark.parametrize(("queue", "frame", "frames"), [(64, 4, 16), (65, 4, 16), (3, 4, 1), (4, 4, 1)])
def test_as_many_whole_frames_as_fit_and_one_at_least(queue: int, frame: int, frames: int) -> None:
    assert frames_that_fit(queue, frame) == frames


def test_a_frame_of_unknown_size_leaves_the_counts() -> None:
    inputs = Inputs(queue_length=1000, id_fields=("uniqueId",), epoch=0)
    inputs.size_queues(0, receiver_bytes=64, server_bytes=64)
    assert (inputs._queue_length, inputs._server_queue) == (1000, None)
    inputs.size_queues(8, receiver_bytes=64, server_bytes=None)
    assert (inputs._queue_length, inputs._server_queue) == (8, None)
