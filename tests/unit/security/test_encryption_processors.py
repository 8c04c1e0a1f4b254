from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pvaccess
import pytest

from beamcast.core.errors import UsageError
from beamcast.processors.encryption import Open, Seal
from beamcast.pva.ndarray import image_view, make_ndarray
from beamcast.pva.sealed import CODEC
from beamcast.security.envelope import SealError, UnknownKey
from beamcast.security.keys import KeyRing

IMAGE = np.arange(12, dtype=np.float32).reshape(3, 4)
GENERIC = {"motor": pvaccess.DOUBLE, "uniqueId": pvaccess.LONG, "trace": [pvaccess.INT]}


@pytest.fixture
def context(tmp_path: Path) -> SimpleNamespace:
    KeyRing.create().write(tmp_path / "stream.keys")
    return SimpleNamespace(run="run", pool="seal", place=SimpleNamespace(rank=3), base=tmp_path)


def started(processor: Any, context: SimpleNamespace) -> Any:
    processor.start(context)
    return processor


def frame(pv: Any, frame_id: int = 5) -> SimpleNamespace:
    return SimpleNamespace(pv=pv, id=frame_id)


def image_frame() -> SimpleNamespace:
    return frame(make_ndarray(IMAGE, frame_id=5, timestamp_s=1.5))


def test_payloads_pass_through_a_pair_of_pools(context: SimpleNamespace) -> None:
    seal, open_ = (
        started(Seal(key_file="stream.keys"), context),
        started(Open(key_file="stream.keys"), context),
    )
    sealed = seal.process(image_frame())
    assert sealed["codec.name"] == CODEC
    assert np.array_equal(image_view(open_.process(frame(sealed))), IMAGE)
    assert seal.stats() == {"sealed": 1}
    assert open_.stats() == {"opened": 1, "refused": 0}
    seal.stop()
    open_.stop()


def test_whole_objects_pass_with_only_id_and_time_readable(context: SimpleNamespace) -> None:
    seal = started(Seal(key_file="stream.keys", scope="object"), context)
    open_ = started(Open(key_file="stream.keys"), context)
    pv = pvaccess.PvObject(GENERIC, {"motor": 12.5, "uniqueId": 77, "trace": [1, 2]})
    sealed = seal.process(frame(pv, 77))
    assert sorted(sealed.keys()) == ["sealed", "timeStamp", "uniqueId"]
    assert sealed["uniqueId"] == 77
    assert str(open_.process(frame(sealed))) == str(pv)


def test_the_id_and_time_of_an_object_are_bound(context: SimpleNamespace) -> None:
    seal = started(Seal(key_file="stream.keys", scope="object"), context)
    open_ = started(Open(key_file="stream.keys"), context)
    for name, value in (("uniqueId", 6), ("timeStamp.secondsPastEpoch", 9), ("timeStamp.nanoseconds", 9)):
        sealed = seal.process(image_frame())
        assert sealed["timeStamp.secondsPastEpoch"] == 1
        sealed[name] = value
        with pytest.raises(SealError):
            open_.process(frame(sealed))
    assert open_.stats() == {"opened": 0, "refused": 3}


@pytest.mark.parametrize("scope", ["payload", "object"])
def test_no_record_shows_the_first_frame(context: SimpleNamespace, scope: Any) -> None:
    """The value that a record has before its first update can be read by everybody."""
    seal = started(Seal(key_file="stream.keys", scope=scope), context)
    open_ = started(Open(key_file="stream.keys"), context)
    probe = image_frame().pv
    before = str(probe)
    record = seal.output_type(probe)
    assert str(probe) == before
    published = seal.process(image_frame())
    assert record.getStructureDict() == published.getStructureDict()
    whole = record["sealed"] if scope == "object" else record.getUnion("value").getScalarArray("ubyteValue")
    assert IMAGE.tobytes() not in whole.tobytes()
    opened = open_.output_type(record)
    assert opened.getStructureDict() == probe.getStructureDict()
    assert open_.process(frame(published)).getStructureDict() == opened.getStructureDict()


def test_a_detector_without_a_first_frame_can_be_probed(context: SimpleNamespace) -> None:
    record = started(Seal(key_file="stream.keys"), context).output_type(pvaccess.NtNdArray())
    assert record["codec.name"] == ""


def test_a_probe_is_looked_at_and_can_still_come_as_a_frame(context: SimpleNamespace) -> None:
    sealed = started(Seal(key_file="stream.keys", scope="object"), context).process(image_frame())
    open_ = started(Open(key_file="stream.keys"), context)
    open_.output_type(sealed)
    assert np.array_equal(image_view(open_.process(frame(sealed))), IMAGE)


def test_frames_of_another_facility_are_refused(context: SimpleNamespace, tmp_path: Path) -> None:
    sealed = started(Seal(key_file="stream.keys"), context).process(image_frame())
    KeyRing.create().write(tmp_path / "other.keys")
    with pytest.raises(UnknownKey):
        started(Open(key_file="other.keys"), context).process(frame(sealed))


def test_the_sender_is_named_after_its_place_or_as_told(context: SimpleNamespace) -> None:
    for sender, expected in ((None, "run/seal/3"), ("detector", "detector")):
        sealed = started(Seal(key_file="stream.keys", sender=sender), context).process(image_frame())
        only = started(Open(key_file="stream.keys", sender=expected), context)
        assert np.array_equal(image_view(only.process(frame(sealed))), IMAGE)


def test_wrong_parameters_say_what_is_possible(context: SimpleNamespace) -> None:
    with pytest.raises(UsageError, match="'payload' or 'object'"):
        Seal(key_file="k", scope="image")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="1 to 255 bytes"):
        Seal(key_file="k", sender="")
    (context.base / "stream.keys").chmod(0o644)
    for processor in (Seal(key_file="stream.keys"), Open(key_file="stream.keys")):
        with pytest.raises(UsageError, match="read by others"):
            processor.start(context)
