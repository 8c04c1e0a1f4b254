"""Frames that came in stacks, through every kind of processor: as if each had come alone, and without copies."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pool_fakes import FakeServer

from beamcast.core.ids import FrameKey
from beamcast.core.place import Place
from beamcast.pools.context import Context, Station
from beamcast.pools.frame import stack
from beamcast.pools.native import NativeProcessor
from beamcast.pools.processor import open_output
from beamcast.pools.stacked import first_frame, stacked_frame
from beamcast.pools.tally import Tally
from beamcast.pools.work import make_work
from beamcast.pva.ndarray import image_view, make_ndarray
from beamcast.pva.stack import FrameTemplate, Stack, StackWriter

PLACE = Place(rank=0, size=1, node="n", node_index=0, nodes=1, local_rank=0, local_size=1)
CONTEXT = Context(run="r", pool="p", place=PLACE, base=Path())


def frame(number: int) -> Any:
    return make_ndarray(np.full((3, 4), number, np.uint16), frame_id=number, timestamp_s=1000.25 + number)


def message(*numbers: int) -> Any:
    writer = StackWriter(frame(0), id_field="uniqueId", frames=16)
    for number in numbers:
        writer.add(number, frame(number))
    return writer.message()


class Bench:
    """The frame path of a rank around a user's object."""

    def __init__(self, user: Any) -> None:
        self.server, self.tally = FakeServer(), Tally()
        station = Station(
            rank=0, input_channel="in", output_channel="out", id_fields=("uniqueId",), server=self.server
        )
        processor = NativeProcessor(user, spec="u")
        output = open_output(processor, station)
        processor.start(CONTEXT)
        output.open(first_frame(message(0), id_field="uniqueId"))
        self.work = make_work(processor, output, self.tally, make_frame=stacked_frame)

    def feed(self, *numbers: int) -> "Bench":
        pv = message(*numbers)
        one = Stack(pv, FrameTemplate(pv, id_field="uniqueId"))
        for index, number in enumerate(one.ids):
            self.work.do((one, index), FrameKey(number))
        self.work.flush()
        return self


class Sums:
    output = {"total": float}  # noqa: RUF012

    def process(self, frame: Any) -> dict[str, float]:
        return {"total": float(frame.image.sum())}


def test_each_frame_has_its_own_image_id_and_time() -> None:
    bench = Bench(Sums()).feed(5, 6, 7)
    assert bench.tally.processed == [5, 6, 7]
    assert [pv["total"] for pv in bench.server.published] == [60.0, 72.0, 84.0]
    assert [pv["uniqueId"] for pv in bench.server.published] == [5, 6, 7]
    assert [pv["timeStamp"]["secondsPastEpoch"] for pv in bench.server.published] == [1005, 1006, 1007]
    assert {pv["timeStamp"]["nanoseconds"] for pv in bench.server.published} == {250_000_000}


def test_a_frame_that_is_passed_on_looks_as_it_did_at_the_source() -> None:
    class PassOn:
        def process(self, frame: Any) -> Any:
            return frame.pv

    bench = Bench(PassOn()).feed(5, 6)
    for number, pv in zip((5, 6), bench.server.published, strict=True):
        np.testing.assert_equal(pv.toDict(), frame(number).toDict())


def test_one_bad_frame_does_not_cost_the_others_of_its_stack() -> None:
    class Picky:
        def process(self, frame: Any) -> Any:
            if frame.id == 6:
                raise ValueError("no peak")
            return None if frame.id == 7 else frame.image

    bench = Bench(Picky()).feed(5, 6, 7, 8)
    tally = bench.tally
    assert (tally.processed, tally.dropped, tally.failed) == ([5, 8], [7], [6])
    assert [image_view(pv)[0, 0] for pv in bench.server.published] == [5, 8]


class InOneCall:
    batch = 16

    def __init__(self) -> None:
        self.seen: list[tuple[Any, bool, bool]] = []

    def process_batch(self, frames: Any) -> list[Any]:
        images = stack(frames)
        self.seen.append(
            (images.shape, bool(images.flags.owndata), np.shares_memory(images, frames[0].image))
        )
        return [image.copy() for image in images]


def test_a_batch_is_one_whole_stack_as_a_view() -> None:
    user = InOneCall()
    bench = Bench(user).feed(1, 2, 3, 4).feed(5, 6)
    assert user.seen == [((4, 3, 4), False, True), ((2, 3, 4), False, True)]
    assert bench.tally.processed == [1, 2, 3, 4, 5, 6]
    assert [image_view(pv)[0, 0] for pv in bench.server.published] == [1, 2, 3, 4, 5, 6]


def test_a_smaller_batch_gets_the_stack_in_views_of_its_size() -> None:
    user = InOneCall()
    user.batch = 3
    Bench(user).feed(1, 2, 3, 4)
    assert user.seen == [((3, 3, 4), False, True), ((1, 3, 4), False, True)]


@pytest.mark.parametrize("numbers", [(0, 2), (1, 0)], ids=["with-a-gap", "backwards"])
def test_frames_that_do_not_lie_together_are_copied(numbers: tuple[int, int]) -> None:
    pv = message(1, 2, 3)
    one = Stack(pv, FrameTemplate(pv, id_field="uniqueId"))
    frames = [stacked_frame((one, index), FrameKey(index), None) for index in numbers]  # type: ignore[arg-type]
    images = stack(frames)
    assert images.flags.owndata
    assert [image[0, 0] for image in images] == [index + 1 for index in numbers]
