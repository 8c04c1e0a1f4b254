from pathlib import Path

import h5py
import numpy as np
import pytest
from eiger_files import write_eiger

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


def test_a_grid_scan_and_colour_images_are_played_frame_by_frame(tmp_path: Path) -> None:
    scan = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)
    np.save(tmp_path / "scan.npy", scan)
    source = open_source(tmp_path / "scan.npy")
    assert (source.frames, source.shape) == (6, (4, 5))
    assert np.array_equal(source.frame(4), scan[1, 1])
    colours = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    np.save(tmp_path / "rgb.npy", colours)
    source = open_source(tmp_path / "rgb.npy")
    assert (source.frames, source.shape) == (2, (4, 5, 3))
    assert np.array_equal(source.frame(3), colours[1])


@pytest.mark.parametrize("dataset", [None, "/entry/data"])
def test_the_files_behind_an_eiger_master_are_one_stack(tmp_path: Path, dataset: str | None) -> None:
    source = open_source(write_eiger(tmp_path, files=11), dataset)
    assert (source.frames, source.shape) == (22, (4, 5))
    assert [int(source.frame(index)[0, 0]) for index in range(22)] == list(range(1, 23))


def test_a_data_file_that_is_missing_is_named(tmp_path: Path) -> None:
    master = write_eiger(tmp_path, files=2)
    master.with_name("take_data_000002.h5").unlink()
    with pytest.raises(
        DataError, match=r"data_000002 is in take_data_000002.h5, which can't be opened.*one folder"
    ):
        open_source(master)
    assert open_source(master, "entry/data/data_000001").frames == 2


def test_links_that_lead_in_circles_or_nowhere_do_no_harm(tmp_path: Path, stack: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/scan"] = stack
        file["entry/again"] = h5py.SoftLink("/entry")
        file["entry/gone"] = h5py.SoftLink("/nowhere")
        file["entry/elsewhere"] = h5py.ExternalLink("none.h5", "/data")
    assert open_source(tmp_path / "a.h5", "entry/scan").frames == 3


@pytest.mark.parametrize("shape", [(5,), (), (0, 4, 4)])
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
