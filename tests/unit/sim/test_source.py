from pathlib import Path

import h5py
import numpy as np
import pytest

from beamcast.core.errors import DataError, UsageError
from beamcast.sim.payload import PayloadMaker
from beamcast.sim.source import RandomSource, open_source


@pytest.fixture
def stack() -> np.ndarray:
    return np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)


def test_an_npy_stack_is_played_in_a_loop(tmp_path: Path, stack: np.ndarray) -> None:
    path = tmp_path / "with space.npy"
    np.save(path, stack)
    source = open_source(path)
    assert (source.shape, source.dtype, source.frames) == ((4, 5), np.dtype("uint16"), 3)
    for frame_id in range(7):
        assert np.array_equal(source.frame(frame_id), stack[frame_id % 3])
    cycle = source.cycle()
    assert cycle is not None
    assert np.array_equal(np.stack(cycle), stack)


def test_one_image_is_a_stack_of_one(tmp_path: Path, stack: np.ndarray) -> None:
    np.save(tmp_path / "one.npy", stack[1])
    assert np.array_equal(open_source(tmp_path / "one.npy").frame(9), stack[1])


def test_big_endian_files_become_native(tmp_path: Path, stack: np.ndarray) -> None:
    np.save(tmp_path / "big.npy", stack.astype(">u2"))
    frame = open_source(tmp_path / "big.npy").frame(2)
    assert frame.dtype.isnative
    assert np.array_equal(frame, stack[2])


def test_the_only_stack_of_an_hdf5_file_is_found(tmp_path: Path, stack: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/data/data"] = stack
        file["entry/dark"] = stack[0]
        file["entry/angles"] = np.arange(3.0)
    source = open_source(tmp_path / "a.h5")
    assert np.array_equal(source.frame(4), stack[1])


def test_several_stacks_must_be_chosen_from(tmp_path: Path, stack: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["white"] = stack
        file["data"] = stack + 1
    with pytest.raises(UsageError, match=r"2 datasets .* data, white"):
        open_source(tmp_path / "a.h5")
    assert np.array_equal(open_source(tmp_path / "a.h5", "data").frame(0), stack[0] + 1)
    with pytest.raises(DataError, match="no dataset 'dta'; it has data, white"):
        open_source(tmp_path / "a.h5", "dta")


@pytest.mark.parametrize("shape", [(5,), (2, 2, 2, 2), (0, 4, 4)])
def test_arrays_that_hold_no_frames_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "odd.npy", np.zeros(shape))
    with pytest.raises(DataError, match="needed are"):
        open_source(tmp_path / "odd.npy")


def test_files_that_are_something_else_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "text.h5").write_text("hello")
    for name, message in (("text.npy", "not an .npy"), ("text.h5", "as HDF5"), ("none.npy", "no such file")):
        with pytest.raises(DataError, match=message):
            open_source(tmp_path / name)


def test_random_frames_are_stamped_or_repeat() -> None:
    maker = PayloadMaker((8, 8), "uint8", seed=0)
    assert maker.verify(RandomSource(maker).frame(77), 77)
    assert RandomSource(maker).cycle() is None
    plain = RandomSource(maker, stamp=False)
    cycle = plain.cycle()
    assert cycle is not None
    assert np.array_equal(plain.frame(77), cycle[77 % len(cycle)])
