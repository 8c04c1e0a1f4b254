"""Frames numbered by any field, from servers of both kinds: what is lost is named, and what does not count is told."""

import contextlib
from collections.abc import Iterable, Sequence

import numbered_source
import pytest
from launching import detector
from test_run import Case, case

from beamcast.core.ids import parse_ranges

__all__ = ["case"]
pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

# A server of PVXS whose queue for one client is full changes what others get (known-limits.md): here none is.
BURSTS = {"pvaccess": (3000, 100), "pvxs": (900, 1000)}


def source(
    case: Case, server: str, id_field: str, ids: Iterable[int]
) -> "contextlib.AbstractContextManager[str]":
    """A detector that sends these ids when `go` appears in the case's folder."""
    words = [server, id_field, f"{case.prefix}:image", str(case.folder)]
    return detector(numbered_source.__file__, *words, ",".join(map(str, ids)))


@pytest.mark.parametrize("server", ["pvaccess", "pvxs"])
@pytest.mark.parametrize(
    ("id_field", "delivery"),
    [
        ("timeStamp.userTag", "at-least-once"),
        ("timeStamp.userTag", "at-most-once"),
        *(
            pytest.param(id_field, delivery, marks=pytest.mark.slow)
            for id_field in ("uniqueId", "number", "header.number")
            for delivery in ("at-least-once", "at-most-once")
        ),
    ],
)
def test_what_a_burst_loses_is_named(case: Case, server: str, id_field: str, delivery: str) -> None:
    """I1, C12."""
    burst, queue = BURSTS[server]
    with source(case, server, id_field, range(1, burst + 1)) as at:
        case.write(
            simulate=False,
            source=f'address = "{at}"\nid_field = "{id_field}"\nidle_timeout = "3 s"',
            top=f'delivery = "{delivery}"',
        )
        workflow = case.folder / "workflow.toml"
        workflow.write_text(workflow.read_text() + f"\n[mirror]\nqueue = {queue}\n")
        running = case.start()
        running.wait_for("is ready", 90)
        (case.folder / "go").touch()
        status = running.wait(90)
    report = case.report()
    frames = report["frames"]
    lost = sum(len(parse_ranges(each["ids"])) for each in report["missing"])
    unwatched = sum(each["count"] for each in report["source"]["skipped"] if not each["watched"])
    assert frames["collected"] + frames["lost"] + unwatched == burst, (frames, report["source"])
    assert frames["lost"] == lost
    assert status == (3 if lost or unwatched else 0), running.output[-3000:]
    case.assert_nothing_left()


@pytest.mark.parametrize(
    ("ids", "delivery", "said"),
    [
        # C10: as p4p's own `wrap` numbers them; a single-shot detector (I5); ids of an int32 at its end (C13); I5.
        ([0] * 20, "at-least-once", "19 updates of the source repeat the id of the one before (at last 0)"),
        ([1] * 20, "at-most-once", "19 updates of the source repeat the id of the one before (at last 1)"),
        ([*range(2**31 - 30, 2**31), *range(-(2**31), -(2**31) + 30)], "at-most-once", ""),
        (range(50), "at-least-once", ""),
        (range(50), "at-most-once", ""),
    ],
    ids=["always-0", "always-1", "int32-wraps", "from-0", "from-0-at-most-once"],
)
def test_every_id_counts_and_what_does_not_count_is_told(
    case: Case, ids: Sequence[int], delivery: str, said: str
) -> None:
    with source(case, "pvaccess", "uniqueId", ids) as at:
        case.write(
            simulate=False,
            source=f'address = "{at}"\nidle_timeout = "2 s"\nfirst_frame_timeout = "5 s"',
            top=f'delivery = "{delivery}"',
        )
        running = case.start()
        running.wait_for("is ready", 90)
        (case.folder / "go").touch()
        status = running.wait(90)
    report, output = case.report(), running.output
    numbers = set(ids)
    assert status == 0, output[-3000:]
    assert report["frames"]["source"] == report["frames"]["collected"] == len(numbers), report
    assert report["frames"]["skipped"] == 0
    assert report["source"]["repeated"] == len(ids) - len(numbers)
    assert said in output
    case.assert_nothing_left()
