"""Frames through processors of every kind, on a fake server: what is published and what is counted."""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pvaccess
import pytest
from pool_fakes import FakeServer

from beamcast.core.errors import Terminated, UsageError
from beamcast.core.ids import FrameKey
from beamcast.core.place import Place
from beamcast.pools.adapter import PvapyProcessor
from beamcast.pools.context import Context, Station
from beamcast.pools.frame import stack
from beamcast.pools.native import NativeProcessor
from beamcast.pools.processor import LoadedProcessor, open_output
from beamcast.pools.tally import Tally
from beamcast.pools.work import Work, make_work
from beamcast.pva.ndarray import image_view, make_ndarray

PLACE = Place(rank=0, size=1, node="n", node_index=0, nodes=1, local_rank=0, local_size=1)
CONTEXT = Context(run="r", pool="p", place=PLACE, base=Path())


def shown(value: object) -> str:
    """How a value is called in a test's name, which is to be the same in each process."""
    return repr(value).partition(" object at 0x")[0]


def image_pv(frame_id: int, value: int = 0) -> Any:
    return make_ndarray(np.full((3, 4), value or frame_id, np.uint16), frame_id=frame_id, timestamp_s=12.25)


class Bench:
    """One rank's frame path around a user's object."""

    def __init__(self, user: Any, *, pvapy: bool = False, probe: Any = None) -> None:
        self.server = FakeServer()
        self.tally = Tally()
        station = Station(
            rank=0, input_channel="in", output_channel="out", id_fields=("uniqueId",), server=self.server
        )
        self.processor: LoadedProcessor = (
            PvapyProcessor(user, spec="u", station=station) if pvapy else NativeProcessor(user, spec="u")
        )
        output = open_output(self.processor, station)
        self.processor.start(CONTEXT)
        output.open(probe if probe is not None else image_pv(0, 9))
        self.work: Work = make_work(self.processor, output, self.tally)

    def feed(self, *ids: int) -> "Bench":
        for frame_id in ids:
            self.work.do(image_pv(frame_id), FrameKey(frame_id))
        self.work.flush()
        return self

    @property
    def fate(self) -> tuple[list[int], list[int], list[int]]:
        return self.tally.processed, self.tally.dropped, self.tally.failed

    @property
    def errors(self) -> list[str]:
        return [frame.traceback.strip().rpartition("\n")[2] for frame in self.tally.failed_frames]


class By:
    """A native processor made of a function."""

    def __init__(self, function: Callable[[Any], Any], **attributes: Any) -> None:
        self.process = function
        self.__dict__.update(attributes)


def raising(error: BaseException) -> Callable[[Any], Any]:
    def process(frame: Any) -> Any:
        if frame.id == 2:
            raise error
        return frame.pv

    return process


def test_none_is_a_drop_and_an_array_of_another_shape_and_dtype_is_an_image() -> None:
    bench = Bench(By(lambda f: None if f.id == 2 else f.image[:2, ::2].astype(np.float32) * 0.5)).feed(
        1, 2, 3
    )
    assert bench.fate == ([1, 3], [2], [])
    last = bench.server.published[-1]
    assert image_view(last).dtype == np.float32
    assert image_view(last).tolist() == [[1.5, 1.5], [1.5, 1.5]]
    assert last["uniqueId"] == 3
    assert last["timeStamp"]["secondsPastEpoch"] == last["dataTimeStamp"]["secondsPastEpoch"] == 12


def test_a_dict_of_declared_fields_becomes_a_record_with_id_and_time() -> None:
    bench = Bench(By(lambda f: {"total": f.image.sum()}, output={"total": float})).feed(5)
    [pv] = bench.server.published
    assert (pv["uniqueId"], pv["total"], pv["timeStamp"]["secondsPastEpoch"]) == (5, 60.0, 12)


def test_a_negative_frame_id_stays_what_it_is() -> None:
    bench = Bench(By(lambda f: f.image))
    bench.work.do(image_pv(-3, 1), FrameKey((1 << 48) - 3))
    assert bench.server.published[0]["uniqueId"] == -3


def test_images_may_come_from_an_input_that_is_no_image() -> None:
    probe = pvaccess.PvObject({"uniqueId": pvaccess.LONG, "x": [pvaccess.DOUBLE]})
    bench = Bench(By(lambda f: np.ones((2, 2), np.uint8), output=np.ndarray), probe=probe)
    bench.work.do(probe, FrameKey(1))
    assert image_view(bench.server.published[0]).shape == (2, 2)


def test_output_type_makes_the_record_for_a_pvobject_of_another_structure() -> None:
    structure = {"uniqueId": pvaccess.LONG, "peaks": [{"x": pvaccess.DOUBLE}]}

    def process(frame: Any) -> Any:
        return pvaccess.PvObject(structure, {"uniqueId": frame.id, "peaks": [{"x": 1.0}, {"x": 2.0}]})

    bench = Bench(By(process, output_type=lambda probe: pvaccess.PvObject(structure))).feed(4)
    assert bench.fate == ([4], [], [])
    assert [peak["x"] for peak in bench.server.published[0]["peaks"]] == [1.0, 2.0]


def test_a_pvobject_of_another_structure_than_the_record_is_a_failed_frame() -> None:
    other = pvaccess.PvObject({"uniqueId": pvaccess.LONG, "z": pvaccess.STRING})
    bench = Bench(By(lambda f: other)).feed(1)
    assert bench.fate == ([], [], [1])
    assert "does not have the structure of the output record" in bench.errors[0]


@pytest.mark.parametrize("made", [None, 3, "x", [None]], ids=str)
def test_an_output_type_that_is_none_is_the_users_error(made: Any) -> None:
    with pytest.raises(UsageError, match="output_type"):
        Bench(By(lambda f: None, output_type=lambda probe: made))


def test_several_outputs_have_a_channel_each_and_the_frames_id_on_all() -> None:
    bench = Bench(By(lambda f: [f.image[:1], {"n": f.id}], outputs=2, output=[np.ndarray, {"n": int}])).feed(
        1, 2
    )
    assert [(channel, pv["uniqueId"]) for channel, pv in bench.server.updates] == [
        ("out", 1), ("out:1", 1), ("out", 2), ("out:1", 2)
    ]  # fmt: skip
    assert bench.fate == ([1, 2], [], [])


@pytest.mark.parametrize("results", [[1], [None, None], "ab", 3], ids=str)
def test_a_wrong_number_of_outputs_is_a_failed_frame(results: Any) -> None:
    bench = Bench(By(lambda f: results, outputs=2)).feed(1)
    assert bench.fate == ([], [], [1])
    assert "list or tuple of 2 results" in bench.errors[0]


@pytest.mark.parametrize(
    "rubbish",
    [
        object(),
        7,
        "text",
        b"bytes",
        {"a": 1},
        np.zeros((0, 3)),
        np.zeros(3, complex),
        np.array(["a"]),
        [],
        (),
    ],
    ids=shown,
)
def test_rubbish_is_a_failed_frame_and_the_next_one_is_fine(rubbish: Any) -> None:
    bench = Bench(By(lambda f: rubbish if f.id == 1 else f.pv)).feed(1, 2)
    assert bench.fate == ([2], [], [1])


@pytest.mark.parametrize(
    "error",
    [ValueError("bad"), SystemExit(0), SystemExit("why"), RecursionError(), GeneratorExit(), MemoryError()],
)
def test_whatever_a_processor_raises_costs_its_frame_alone(error: BaseException) -> None:
    bench = Bench(By(raising(error))).feed(1, 2, 3)
    assert bench.fate == ([1, 3], [], [2])
    assert bench.errors[0].startswith(type(error).__name__)
    assert bench.tally.current is None


@pytest.mark.parametrize("order", [Terminated(143), KeyboardInterrupt()])
def test_the_order_to_end_passes_through_the_processor(order: BaseException) -> None:
    bench = Bench(By(raising(order)))
    with pytest.raises(type(order)):
        bench.feed(1, 2)
    assert bench.fate == ([1], [], [])


def test_failing_on_every_frame_does_not_fill_the_memory_with_tracebacks() -> None:
    def process(frame: Any) -> Any:
        raise ValueError("x" * 100_000)

    bench = Bench(By(process)).feed(*range(1, 200))
    assert len(bench.tally.failed) == 199
    assert sum(len(frame.traceback) for frame in bench.tally.failed_frames) <= 20 * 8000


def test_how_long_a_processor_is_stuck_is_seen_from_outside() -> None:
    seen: list[float] = []

    def process(frame: Any) -> Any:
        seen.extend(bench.tally.stuck_s(now) for now in (10.0, 13.5))

    bench = Bench(By(process))
    assert bench.tally.stuck_s(5.0) == 0.0
    bench.feed(1)
    assert seen == [0.0, 3.5]
    assert bench.tally.stuck_s(20.0) == 0.0


class Batch:
    batch = 4
    output = np.ndarray

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def process_batch(self, frames: list[Any]) -> Any:
        self.calls.append([frame.id for frame in frames])
        if any(frame.id == 6 for frame in frames):
            raise ValueError("poison")
        return stack(frames) * 2


def test_batches_are_as_large_as_wanted_and_the_rest_is_flushed() -> None:
    user = Batch()
    bench = Bench(user).feed(1, 2, 3, 4, 5)
    assert user.calls == [[1, 2, 3, 4], [5]]
    assert bench.fate == ([1, 2, 3, 4, 5], [], [])
    assert [image_view(pv)[0, 0] for pv in bench.server.published] == [2, 4, 6, 8, 10]


def test_a_poison_frame_does_not_cost_the_batch() -> None:
    user = Batch()
    bench = Bench(user).feed(5, 6, 7, 8)
    assert user.calls == [[5, 6, 7, 8], [5], [6], [7], [8]]
    assert bench.fate == ([5, 7, 8], [], [6])


def test_frames_that_wait_for_their_batch_are_reported_as_received() -> None:
    bench = Bench(Batch())
    for frame_id in (1, 2):
        bench.work.do(image_pv(frame_id), FrameKey(frame_id))
    from beamcast.core.keyset import decode_keys

    delta, _ = bench.tally.take()
    assert sorted(decode_keys(delta.received)) == [1, 2]
    assert bench.work.waiting == 2
    bench.work.flush()
    assert bench.work.waiting == 0
    assert bench.tally.held == []


@pytest.mark.parametrize("results", [[], [1], "abcd", 3, iter(())], ids=shown)
def test_a_batch_with_a_wrong_number_of_results_fails(results: Any) -> None:
    class Wrong(Batch):
        def process_batch(self, frames: list[Any]) -> Any:
            return results

    assert Bench(Wrong()).feed(1, 2).fate == ([], [], [1, 2])


def test_stacking_images_of_different_shapes_is_refused() -> None:
    user = Batch()
    bench = Bench(user)
    bench.work.do(make_ndarray(np.ones((2, 2), np.uint8), frame_id=1, timestamp_s=0), FrameKey(1))
    bench.feed(2, 3)
    assert bench.fate == ([1, 2, 3], [], []), "each was tried alone"


class Pvapy:
    """Shaped like PvaPy's, publishing what `plan` says for an id."""

    def __init__(self, plan: dict[int, Callable[[Any], None]]) -> None:
        self.plan = plan
        self.seen: list[str] = []

    def start(self) -> None:
        self.seen.append(f"start {self.inputChannel} {self.outputChannel} {self.pvaServer is not None}")  # type: ignore[attr-defined]

    def process(self, pv: Any) -> Any:
        self.plan[pv["uniqueId"]](self)
        return pv

    def configure(self, configDict: dict[str, Any]) -> None:  # noqa: N803 - PvaPy's name
        self.seen.append(f"configure {configDict}")

    def resetStats(self) -> None:  # noqa: N802 - PvaPy's name
        self.seen.append("reset")


def publish(pv: Any) -> Callable[[Any], None]:
    return lambda user: user.updateOutputChannel(pv)


def swallow(pv: Any) -> Callable[[Any], None]:
    def go(user: Any) -> None:
        with contextlib.suppress(Exception):
            user.dataPublisher.updateOutputChannel(pv)

    return go


def test_a_pvapy_frame_is_processed_dropped_or_failed_by_what_was_published() -> None:
    other = pvaccess.PvObject({"z": pvaccess.INT})
    plan = {1: publish(image_pv(1)), 2: lambda user: None, 3: swallow(other), 4: publish(image_pv(4)),
            5: lambda user: sys.exit(1)}  # fmt: skip
    bench = Bench(Pvapy(plan), pvapy=True).feed(1, 2, 3, 4, 5)
    assert bench.fate == ([1, 4], [2], [3, 5])
    assert [pv["uniqueId"] for pv in bench.server.published] == [1, 4]
    assert "structure" in bench.errors[0]


def test_pvapys_hooks_are_called() -> None:
    user = Pvapy({})
    bench = Bench(user, pvapy=True)
    bench.processor.configure({"a": 1})
    bench.processor.reset_stats()
    assert user.seen == ["start in out True", "configure {'a': 1}", "reset"]


def test_a_pvapy_processor_that_defines_no_output_publishes_nothing() -> None:
    from pvapy.hpc.userDataProcessor import UserDataProcessor

    class Silent(UserDataProcessor):  # type: ignore[misc]
        def getOutputPvObjectType(self, pvObject: Any) -> Any:  # noqa: N802, N803 - PvaPy's name
            return None

    assert Bench(Silent(), pvapy=True).feed(1).fate == ([], [1], [])


def test_configure_of_a_native_processor_is_checked_against_its_annotations() -> None:
    class Tuned(By):
        def configure(self, *, threshold: float) -> None:
            self.threshold = threshold

    user = Tuned(lambda f: None)
    processor = Bench(user).processor
    processor.configure({"threshold": 2})
    assert user.threshold == 2.0
    with pytest.raises(UsageError, match="Expected `float`, got `str`"):
        processor.configure({"threshold": "2"})
    assert user.threshold == 2.0
    with pytest.raises(UsageError, match="no configure"):
        Bench(By(lambda f: None)).processor.configure({"a": 1})
