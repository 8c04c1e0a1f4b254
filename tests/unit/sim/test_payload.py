import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.core.errors import DataError, UsageError
from beamcast.sim.payload import STAMP_VALUES, ImageStatistics, PayloadMaker, read_stamp

DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_image_proves_its_id_and_content_in_every_dtype(dtype: str) -> None:
    maker = PayloadMaker((24, 40), dtype, seed=7)
    image = maker.make(123_456_789)
    assert (image.shape, image.dtype) == ((24, 40), np.dtype(dtype))
    assert read_stamp(image) == (123_456_789, 7)
    assert maker.verify(image, 123_456_789)
    assert np.isfinite(image.astype(float)).all()


@given(frame_id=st.integers(-1, 2**31 - 1), other=st.integers(-1, 2**31 - 1), at=st.integers(0, 24 * 40 - 1))
def test_another_id_or_one_changed_value_is_noticed(frame_id: int, other: int, at: int) -> None:
    maker = PayloadMaker((24, 40), "uint16", seed=1)
    image = maker.make(frame_id)
    assert maker.verify(image, other) == (frame_id == other)
    image.reshape(-1)[at] ^= 1
    assert not maker.verify(image, frame_id)


def test_equal_arguments_make_equal_images_and_another_seed_does_not() -> None:
    first = PayloadMaker((16, 16), "uint8", seed=3)
    assert PayloadMaker((16, 16), "uint8", seed=3).verify(first.make(5), 5)
    assert not PayloadMaker((16, 16), "uint8", seed=4).verify(first.make(5), 5)


def test_made_images_stay_what_they_are() -> None:
    maker = PayloadMaker((16, 16), "uint8", seed=3)
    kept = maker.make(0)
    maker.make(len(maker.patterns))
    assert maker.verify(kept, 0)


def test_shape_and_dtype_are_part_of_the_proof() -> None:
    maker = PayloadMaker((16, 32), "uint8", seed=3)
    image = maker.make(1)
    assert not maker.verify(image.T, 1)
    assert not maker.verify(image.view(np.int8), 1)
    assert maker.verify(np.asfortranarray(image), 1)


def test_an_image_too_small_for_a_stamp_says_so() -> None:
    maker = PayloadMaker((1, STAMP_VALUES - 1), "uint8", seed=0)
    assert not maker.stamped
    assert maker.verify(maker.make(4), 4)
    with pytest.raises(DataError, match="no valid stamp"):
        read_stamp(maker.make(4))


def test_an_image_from_elsewhere_has_no_stamp() -> None:
    with pytest.raises(DataError, match="no valid stamp"):
        read_stamp(np.full((8, 8), np.nan))


@pytest.mark.parametrize(("shape", "dtype"), [((4, 4), "bool"), ((4, 4), "complex64"), ((0, 4), "uint8")])
def test_impossible_images_are_refused(shape: tuple[int, int], dtype: str) -> None:
    with pytest.raises(UsageError, match="cannot make images"):
        PayloadMaker(shape, dtype, seed=0)


def test_statistics_of_a_known_image() -> None:
    image = np.zeros((4, 6), np.uint8)
    image[1, 2] = image[3, 4] = 10
    assert ImageStatistics.of(image) == ImageStatistics(
        total=20.0,
        minimum=0.0,
        maximum=10.0,
        mean=20 / 24,
        std=pytest.approx(float(image.std())),
        center_row=2.0,
        center_col=3.0,
    )


def test_the_expected_statistics_are_those_of_the_image_and_the_spot_walks() -> None:
    maker = PayloadMaker((64, 96), "uint16", seed=2)
    assert maker.expected_statistics(3) == ImageStatistics.of(maker.make(3))
    rows = [maker.expected_statistics(i).center_row for i in range(len(maker.patterns))]
    assert max(rows) - min(rows) > 10


def test_large_frames_share_few_patterns() -> None:
    assert len(PayloadMaker((4096, 4096), "uint8", seed=0).patterns) == 4
