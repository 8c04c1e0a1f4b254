"""Sources that change while they run, lie about their data, or say nothing: each frame has its end, nothing dies."""

from collections import Counter
from contextlib import AbstractContextManager

import hostile_source
import pytest
from launching import detector
from test_run import Case, case

__all__ = ["case"]
pytestmark = [pytest.mark.system, pytest.mark.timeout(200)]

SUMS = """
import numpy


class Sums:
    output = {"total": float, "rows": int}

    def process(self, frame):
        image = frame.image
        return {"total": float(image.sum()), "rows": image.shape[0]}


class Copy:
    def start(self, context):
        self.file = open(context.base / "copy.txt", "w", buffering=1)

    def process(self, frame):
        print(frame.epoch, frame.id, file=self.file)
        return frame.pv


class Upper:
    output = numpy.ndarray

    def process(self, frame):
        return numpy.ascontiguousarray(frame.image[: frame.image.shape[0] // 2])
"""
MORE_POOLS = """
[[pools]]
name = "copy"
role = "consumer"
input = "source"
processor = "sums.py:Copy"

[[pools]]
name = "upper"
role = "consumer"
input = "source"
processor = "sums.py:Upper"

[[pools]]
name = "again"
role = "consumer"
input = "upper"
processor = "sums.py:Sums"
"""


def source(case: Case) -> AbstractContextManager[str]:
    """The hostile detector; where it serves."""
    return detector(hostile_source.__file__, f"{case.prefix}:image", str(case.folder / "go"))


@pytest.mark.parametrize("delivery", [pytest.param("at-most-once", marks=pytest.mark.slow), "at-least-once"])
def test_frames_that_change_and_lie_cost_themselves_and_nothing_else(case: Case, delivery: str) -> None:
    (case.folder / "sums.py").write_text(SUMS)
    with source(case) as at:
        case.write(
            simulate=False,
            source=f'address = "{at}"\nidle_timeout = "4 s"',
            top=f'delivery = "{delivery}"',
            pool='processor = "sums.py:Sums"',
        )
        workflow = case.folder / "workflow.toml"
        workflow.write_text(workflow.read_text() + MORE_POOLS)
        running = case.start()
        running.wait_for("is ready", 90)
        (case.folder / "go").touch()
        assert running.wait(90) == 0, running.output[-3000:]
    report = case.report()
    sent = list(hostile_source.frames())
    kinds = Counter(kind for _, kind in sent)
    kinds["plain"] -= 1  # a repeat is no frame
    total, bad = kinds.total(), sum(kinds[kind] for kind in hostile_source.BAD)
    frames = report["frames"]
    assert frames["lost"] == 0, report["missing"]
    assert frames["failed"] == bad, report["failed_frames"]
    counted = frames["source"]
    assert total - hostile_source.WARM_UP < counted <= total
    assert frames["collected"] == counted - bad
    done = {pool["name"]: sum(rank["processed"] for rank in pool["ranks"]) for pool in report["pools"]}
    good = counted - bad
    wanted = {"collect": good, "work": good, "copy": counted, "upper": good, "again": good}
    if delivery == "at-most-once":
        assert done == wanted
    assert all(done[name] >= count for name, count in wanted.items()), "a frame may be processed again"
    seen = [tuple(map(int, line.split())) for line in (case.folder / "copy.txt").read_text().splitlines()]
    assert sorted(set(seen))[-10:] == [(1, number) for number in range(7, 17)], "a new epoch"
    assert all(rank["generation"] == 0 for pool in report["pools"] for rank in pool["ranks"]), "nobody died"
    errors = {frame["error"] for frame in report["failed_frames"]}
    assert len(errors) >= 4
    words = ("DataError: ", "given up after 3 attempts: ")
    assert all(error.startswith(words) for error in errors), errors
    case.assert_nothing_left()


def test_a_source_that_never_sends_ends_the_run_when_that_was_asked_for(case: Case) -> None:
    with source(case) as at:
        case.write(simulate=False, source=f'address = "{at}"\nfirst_frame_timeout = "2 s"')
        running = case.start("--quiet")
        assert running.wait(90) == 1
        assert f"no frame came from {case.prefix}:image within 2 s after the run was ready" in running.output
        assert "Traceback" not in running.output
    case.assert_nothing_left()
