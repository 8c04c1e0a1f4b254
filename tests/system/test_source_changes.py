"""A source that comes back with another structure while a run is under way, and frames as large as they get."""

import contextlib

import changing_source
import large_source
import psutil
import pytest
from launching import detector
from test_run import Case, case

__all__ = ["case"]
pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


def source(case: Case) -> "contextlib.AbstractContextManager[str]":
    """The one whose structure changes."""
    return detector(changing_source.__file__, f"{case.prefix}:image", str(case.folder))


SUMS = """
class Sums:
    output = {"total": float}

    def process(self, frame):
        return {"total": float(frame.image.sum())}
"""


@pytest.mark.parametrize(
    ("delivery", "batch"),
    [
        ("at-most-once", 1),
        pytest.param("at-least-once", 1, marks=pytest.mark.slow),
        pytest.param("at-least-once", 4, marks=pytest.mark.slow),
    ],
)
def test_another_structure_ends_the_run_with_that_reason(case: Case, delivery: str, batch: int) -> None:
    (case.folder / "sums.py").write_text(SUMS)
    with source(case) as at:
        case.write(
            simulate=False,
            source=f'address = "{at}"',
            top=f'delivery = "{delivery}"',
            pool=f'processor = "sums.py:Sums"\nbatch = {batch}',
        )
        running = case.start()
        running.wait_for("is ready", 90)
        (case.folder / "go").touch()
        running.wait_for("streaming: source", 20)
        (case.folder / "other").touch()
        assert running.wait(60) == 1, running.output[-3000:]
    assert f"the structure of {case.prefix}:image has changed" in running.output
    assert "start the run again" in running.output
    assert "Traceback" not in running.output
    frames = case.report()["frames"]
    assert frames["collected"] > 0
    assert frames["source"] == frames["collected"] + frames["lost"], "what did not come through is named"
    case.assert_nothing_left()


LAST = """
class Last:
    output = {"rows": int, "last": int}

    def start(self, context):
        self.folder = context.base

    def process(self, frame):
        (self.folder / f"seen{frame.id}").touch()
        return {"rows": frame.image.shape[0], "last": int(frame.image[-1, -1])}
"""
GIB = 1 << 30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("delivery", "pool"),
    [("at-most-once", 'server_queue_bytes = "2 GiB"'), ("at-least-once", "window = 2")],
)
def test_frames_of_one_gibibyte(case: Case, delivery: str, pool: str) -> None:
    if psutil.virtual_memory().available < 14 * GIB:
        pytest.skip("needs 14 GiB of free memory")
    (case.folder / "last.py").write_text(LAST)
    frames = 4
    with detector(large_source.__file__, f"{case.prefix}:image", str(case.folder), str(frames)) as at:
        case.write(
            simulate=False,
            source=f'address = "{at}"\nidle_timeout = "15 s"',
            top=f'delivery = "{delivery}"',
            pool=f'processor = "last.py:Last"\nreceiver_queue_bytes = "2 GiB"\n{pool}',
        )
        workflow = case.folder / "workflow.toml"
        text = workflow.read_text().replace('appear_timeout = "4 s"', 'appear_timeout = "60 s"')
        text = text.replace("ranks = 2", "ranks = 1")
        workflow.write_text(text + '\n[mirror]\nqueue_bytes = "2 GiB"\nreplay = "4 GiB"\n')
        running = case.start()
        running.wait_for("is ready", 120)
        (case.folder / "go").touch()
        assert running.wait(120) == 0, running.output[-3000:]
    frame_counts = case.report()["frames"]
    assert frame_counts["source"] == frame_counts["collected"] == frames
    assert frame_counts["lost"] == frame_counts["failed"] == 0
    case.assert_nothing_left()
