"""C14: a time that was never set is no time, wherever a frame's time is read."""

import math

import numpy as np
import pytest

from beamcast.core.ids import FrameKey
from beamcast.core.times import has_time
from beamcast.pools.frame import Frame
from beamcast.pva.fields import is_blank
from beamcast.pva.metadata import time_reader
from beamcast.pva.ndarray import ImageReader, make_ndarray

IMAGE = np.ones((2, 3), np.uint8)


@pytest.mark.parametrize("never", [0.0, 631_152_000.0], ids=["1970", "the EPICS epoch"])
def test_a_time_that_was_never_set_is_no_time_for_anybody(never: float) -> None:
    pv = make_ndarray(IMAGE, frame_id=1, timestamp_s=never)
    frame = Frame(pv, FrameKey(1), ImageReader())
    assert math.isnan(frame.timestamp)
    assert dict(frame.stamp)["secondsPastEpoch"] > 1_700_000_000, "an output gets the time of now"
    assert time_reader(pv, "timeStamp")(pv) is None
    assert is_blank(pv)


@pytest.mark.parametrize("set_s", [0.25, 631_152_000.5, 1_700_000_000.0])
def test_any_other_time_is_one(set_s: float) -> None:
    pv = make_ndarray(IMAGE, frame_id=1, timestamp_s=set_s)
    frame = Frame(pv, FrameKey(1), ImageReader())
    assert frame.timestamp == set_s
    assert frame.stamp["secondsPastEpoch"] == int(set_s)
    assert time_reader(pv, "timeStamp")(pv) == round(set_s * 1e9)
    assert not is_blank(pv)
    assert has_time(int(set_s), round(set_s % 1 * 1e9))
