from collections.abc import Callable
from typing import Any

import numpy as np
import pvaccess
import pytest

from beamcast.core.errors import DataError
from beamcast.pva.ndarray import FIELD_OF_DTYPE, image_view, make_ndarray
from beamcast.pva.sealed import CODEC, NdArrayOpener, NdArraySealer
from beamcast.security.envelope import Malformed, Replayed, SealError, Tampered
from beamcast.security.keys import KeyRing
from beamcast.security.opening import Opener
from beamcast.security.sealing import Sealer

RING = KeyRing.create()
IMAGE = np.arange(12, dtype=np.uint16).reshape(3, 4)


def sealer() -> NdArraySealer:
    return NdArraySealer(Sealer(RING, sender="rank 0"))


def opener() -> NdArrayOpener:
    return NdArrayOpener(Opener(RING))


def frame(image: np.ndarray = IMAGE, frame_id: int = 5) -> Any:
    return make_ndarray(image, frame_id=frame_id, timestamp_s=1_700_000_000.25)


@pytest.mark.parametrize("dtype", FIELD_OF_DTYPE, ids=str)
def test_every_dtype_comes_back_whole(dtype: np.dtype) -> None:
    image = (np.arange(24) * 5).astype(dtype).reshape(2, 3, 4)
    before = frame(image)
    sealed = sealer().seal(before.copy())
    opened = opener().open(sealed)
    assert image_view(opened).dtype == dtype
    assert np.array_equal(image_view(opened), image)
    assert str(opened) == str(before)


def test_one_stream_may_change_its_dtype_and_have_frames_without_an_image() -> None:
    seal, open_ = sealer(), opener()
    for number, dtype in enumerate(("uint8", "uint16", "float64", "uint8", "uint8")):
        image = np.full((2, 3), number, dtype=dtype)
        opened = open_.open(seal.seal(frame(image, frame_id=number)))
        assert image_view(opened).dtype == dtype
        assert np.array_equal(image_view(opened), image)
        with pytest.raises(DataError, match="holds no image"):
            seal.seal(pvaccess.NtNdArray())


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64"])
def test_large_frames_come_back_whole_and_do_not_share_memory(dtype: str) -> None:
    images = [np.random.default_rng(seed).integers(0, 100, (2100, 2001)).astype(dtype) for seed in range(3)]
    seal, open_ = sealer(), opener()
    sealed = [seal.seal(frame(image, frame_id=number)) for number, image in enumerate(images)]
    bytes_of = [one.getUnion("value").getScalarArray("ubyteValue").copy() for one in sealed]
    assert len({one.tobytes() for one in bytes_of}) == 3
    assert all(one["compressedSize"] == len(cipher) for one, cipher in zip(sealed, bytes_of, strict=True))
    opened = [open_.open(one) for one in sealed]
    for one, image in zip(opened, images, strict=True):
        assert np.array_equal(image_view(one), image)
        assert one["uncompressedSize"] == image.nbytes


def test_a_large_frame_that_was_changed_is_refused_and_stays_as_it_was() -> None:
    sealed = sealer().seal(frame(np.ones((2100, 1001), dtype=np.uint16)))
    value = sealed.getUnion("value").getScalarArray("ubyteValue").copy()
    value[-1] ^= 1
    sealed.setUnion("value", {"ubyteValue": value})
    with pytest.raises(Tampered):
        opener().open(sealed)
    assert np.array_equal(sealed.getUnion("value").getScalarArray("ubyteValue"), value)
    assert sealed["codec.name"] == CODEC


def test_the_sealed_object_is_an_ndarray_whose_id_times_and_dimensions_can_be_read() -> None:
    before = frame()
    pixels = IMAGE.tobytes()
    sealed = sealer().seal(before.copy())
    assert sealed["codec.name"] == CODEC
    for name in ("uniqueId", "timeStamp", "dataTimeStamp", "dimension", "uncompressedSize", "attribute"):
        assert sealed[name] == before[name]
    value = sealed.getUnion("value").getScalarArray("ubyteValue")
    assert sealed["compressedSize"] == value.size
    assert pixels not in value.tobytes()
    with pytest.raises(DataError, match=f"codec '{CODEC}'"):
        image_view(sealed)


def test_booleans_and_compressed_images_keep_their_codec_and_parameters() -> None:
    packed = frame(np.frombuffer(b"\x00lz4 here", np.uint8))
    packed["codec.name"] = "lz4"
    packed["codec.parameters"] = pvaccess.PvInt(7)
    packed["uncompressedSize"] = 999
    flags = frame()
    flags.setUnion("value", {"booleanValue": [True, False, True]})
    for before in (packed, flags):
        before["compressedSize"] = len(before["value"][0].popitem()[1])
        if before is flags:
            before["uncompressedSize"] = 3
        opened = opener().open(sealer().seal(before.copy()))
        assert repr(opened.toDict()) == repr(before.toDict())


CHANGES: dict[str, Callable[[Any], None]] = {
    "id": lambda pv: pv.setInt("uniqueId", 6),
    "seconds": lambda pv: pv.setLong("timeStamp.secondsPastEpoch", 1),
    "nanoseconds": lambda pv: pv.setInt("timeStamp.nanoseconds", 1),
    "data seconds": lambda pv: pv.setLong("dataTimeStamp.secondsPastEpoch", 1),
    "data nanoseconds": lambda pv: pv.setInt("dataTimeStamp.nanoseconds", 1),
    "dimension": lambda pv: pv.setStructureArray("dimension", pv["dimension"][::-1]),
    "binning": lambda pv: pv.setStructureArray("dimension", [{**d, "binning": 2} for d in pv["dimension"]]),
    "no dimension": lambda pv: pv.setStructureArray("dimension", []),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_readable_fields_that_are_bound_can_not_be_changed(change: Callable[[Any], None]) -> None:
    sealed = sealer().seal(frame())
    change(sealed)
    with pytest.raises(Tampered):
        opener().open(sealed)


@pytest.mark.parametrize(
    "change", [("codec.parameters", pvaccess.PvInt(8)), ("uncompressedSize", 1)], ids=["parameters", "size"]
)
def test_what_a_decompressor_needs_can_not_be_changed(change: tuple[str, Any]) -> None:
    packed = frame()
    packed["codec.name"] = "blosc"
    packed["codec.parameters"] = pvaccess.PvInt(7)
    sealed = sealer().seal(packed)
    sealed[change[0]] = change[1]
    with pytest.raises(Tampered):
        opener().open(sealed)


def test_a_wrong_plain_size_is_put_right() -> None:
    sealed = sealer().seal(frame())
    sealed["uncompressedSize"] = 10**12
    assert opener().open(sealed)["uncompressedSize"] == IMAGE.nbytes


def test_a_payload_of_another_frame_is_refused() -> None:
    seal = sealer().seal
    one, other = seal(frame(frame_id=1)), seal(frame(frame_id=2))
    one.setUnion("value", {"ubyteValue": other.getUnion("value").getScalarArray("ubyteValue")})
    with pytest.raises(Tampered):
        opener().open(one)


def test_a_refused_frame_shows_no_pixel_and_stays_as_it_came() -> None:
    sealed = sealer().seal(frame())
    value = sealed.getUnion("value").getScalarArray("ubyteValue").copy()
    value[-1] ^= 1
    sealed.setUnion("value", {"ubyteValue": value})
    before = str(sealed)
    with pytest.raises(Tampered):
        opener().open(sealed)
    assert str(sealed) == before


def test_frames_that_came_twice_are_refused() -> None:
    open_, sealed = opener().open, sealer().seal(frame())
    again = sealed.copy()
    open_(sealed)
    with pytest.raises(Replayed):
        open_(again)


def test_kept_frames_are_not_overwritten_by_later_ones() -> None:
    seal, open_ = sealer().seal, opener().open
    sealed = [seal(frame(IMAGE + number)) for number in range(3)]
    opened = [open_(pv) for pv in sealed]
    for number, pv in enumerate(opened):
        assert np.array_equal(image_view(pv), IMAGE + number)


@pytest.mark.parametrize(
    "value",
    [
        {"ushortValue": IMAGE.reshape(-1)},
        {"ubyteValue": np.zeros(1, np.uint8)},
        {"ubyteValue": np.arange(200, dtype=np.uint8)},
    ],
)
def test_values_that_are_no_ciphertext_are_malformed(value: dict[str, np.ndarray]) -> None:
    pv = frame()
    pv["codec.name"] = CODEC
    pv.setUnion("value", value)
    with pytest.raises(Malformed):
        opener().open(pv)


@pytest.mark.parametrize("note", [b"", b"ushortValue\xff", b"stringValue ", b"doubleValue "])
def test_notes_that_make_no_array_are_malformed(note: bytes) -> None:
    pv, engine = frame(), Sealer(RING, sender="a")
    context_of = sealer().seal(pv.copy())
    pv["codec.name"] = CODEC
    pv.setUnion("value", {"ubyteValue": engine.seal([np.zeros(3, np.uint8)], note=note)})
    with pytest.raises(SealError):
        opener().open(pv)
    assert context_of["codec.name"] == CODEC


def test_what_is_no_plain_ndarray_is_not_sealed() -> None:
    with pytest.raises(DataError, match="holds no image"):
        sealer().seal(pvaccess.NtNdArray())
    with pytest.raises(DataError, match="sealed already"):
        sealer().seal(sealer().seal(frame()))
    for generic in ({"value": pvaccess.INT}, {"x": pvaccess.INT}):
        with pytest.raises(DataError, match='scope = "object"'):
            sealer().seal(pvaccess.PvObject(generic))
        with pytest.raises(DataError, match="not an NTNDArray"):
            opener().open(pvaccess.PvObject(generic))
    with pytest.raises(Malformed, match="not sealed"):
        opener().open(frame())
