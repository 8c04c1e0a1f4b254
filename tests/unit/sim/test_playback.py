"""Recordings: which files are understood, when their frames are due, under which ids they are sent."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from eiger_files import write_eiger

from beamcast.core.errors import DataError, UsageError
from beamcast.core.frame_layout import DATA, EPOCH, ID, TIMESTAMP
from beamcast.pva.ndarray import MAX_FRAME_ID, image_view
from beamcast.sim.pacing import Pacer
from beamcast.sim.playback import Player, Recording, open_recording, steady

IMAGES = np.arange(5 * 4 * 6, dtype=np.uint16).reshape(5, 4, 6)
AREA_DETECTOR = "entry/instrument/NDAttributes"
AD_IMAGES = "entry/instrument/detector/data"
TIMES_S = np.array([100.0, 100.5, 100.6, 102.0, 102.1])


class FakeServer:
    def __init__(self) -> None:
        self.probe: Any = None
        self.sent: list[tuple[int, Any]] = []

    def addRecord(self, channel: str, pv: Any) -> None:  # noqa: N802 - pvaccess's name
        self.probe = pv.copy()

    def updateUnchecked(self, channel: str, pv: Any) -> None:  # noqa: N802 - pvaccess's name
        self.sent.append((pv["uniqueId"], np.array(image_view(pv))))


def recording(**change: Any) -> Recording:
    return Recording(
        IMAGES, **{"name": "r.h5", "ids": np.array([3, 4, 6, 7, 9]), "times_s": TIMES_S, **change}
    )


def play(player: Player, server: FakeServer) -> list[int]:
    player.serve_initial()
    player.run(lambda: False)
    return [frame_id for frame_id, _ in server.sent]


def write(path: Path, **datasets: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return path


def test_our_own_files_are_understood(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", **{DATA: IMAGES, ID: [3, 4, 6, 7, 9], TIMESTAMP: TIMES_S})
    found = open_recording(path)
    assert found.frames == 5
    assert found.ids.tolist() == [3, 4, 6, 7, 9]
    np.testing.assert_allclose(found.due_s(), [0, 0.5, 0.6, 2.0, 2.1])
    np.testing.assert_array_equal(found.image(2), IMAGES[2])


def test_those_of_area_detector_too(tmp_path: Path) -> None:
    attributes = "entry/instrument/NDAttributes"
    path = write(
        tmp_path / "ad.h5",
        **{
            "entry/instrument/detector/data": IMAGES.astype(">u2"),
            f"{attributes}/NDArrayUniqueId": np.arange(5, dtype=np.int32),
            f"{attributes}/NDArrayTimeStamp": TIMES_S,
        },
    )
    found = open_recording(path)
    assert found.ids.tolist() == [0, 1, 2, 3, 4]
    assert found.image(1).dtype == np.dtype("=u2")
    np.testing.assert_array_equal(found.image(1), IMAGES[1])


def test_frames_that_were_not_flushed_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", **{DATA: IMAGES, ID: [3, 4, 6], TIMESTAMP: TIMES_S[:4]})
    assert open_recording(path).frames == 3


def test_a_dataset_with_another_name_needs_rate_and_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", **{"scan/frames": IMAGES})
    with pytest.raises(DataError, match="--dataset"):
        open_recording(path)
    found = open_recording(path, "scan/frames")
    with pytest.raises(UsageError, match="--rate"):
        found.due_s()
    with pytest.raises(UsageError, match="--first-id"):
        Player("c", found, server=FakeServer(), due_s=steady(5, 10))


@pytest.mark.parametrize("images", [IMAGES[:0], IMAGES[0]], ids=["none", "flat"])
def test_a_file_without_frames_is_refused(images: Any) -> None:
    with pytest.raises(DataError, match="holds no frames"):
        Recording(images, name="r.h5")


SCAN = np.arange(3 * 4 * 8 * 6, dtype=np.uint16).reshape(3, 4, 8, 6)


@pytest.mark.parametrize("attributes", ["grid", "flat", "none"])
def test_a_grid_scan_of_area_detector_is_played_frame_by_frame(attributes: str, tmp_path: Path) -> None:
    ids, shape = np.arange(1, 13, dtype=np.int32), (3, 4) if attributes == "grid" else (12,)
    more = {
        f"{AREA_DETECTOR}/NDArrayUniqueId": ids.reshape(shape),
        f"{AREA_DETECTOR}/NDArrayTimeStamp": (1e9 + ids / 10).reshape(shape),
    }
    path = write(tmp_path / "scan.h5", **{AD_IMAGES: SCAN}, **(more if attributes != "none" else {}))
    found = open_recording(path)
    assert found.frames == 12
    np.testing.assert_array_equal([found.image(index) for index in range(12)], SCAN.reshape(12, 8, 6))
    if attributes != "none":
        assert found.ids.tolist() == ids.tolist()
        np.testing.assert_allclose(found.due_s(), np.arange(12) / 10, atol=1e-5)


def test_a_scan_that_was_ended_early_has_the_frames_that_were_taken(tmp_path: Path) -> None:
    ids = np.zeros((3, 4), np.int32)
    ids[0], ids[1, 0] = [1, 2, 3, 4], 5
    found = open_recording(
        write(tmp_path / "scan.h5", **{AD_IMAGES: SCAN, f"{AREA_DETECTOR}/NDArrayUniqueId": ids})
    )
    assert found.ids.tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(found.image(4), SCAN[1, 0])


@pytest.mark.parametrize("shape", [(5, 8, 6, 3), (5, 3, 8, 6)], ids=["rgb1", "rgb3"])
def test_colour_images_of_area_detector_stay_whole(shape: tuple[int, ...], tmp_path: Path) -> None:
    images = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    path = write(tmp_path / "rgb.h5", **{AD_IMAGES: images})
    with h5py.File(path, "a") as file:
        file[AD_IMAGES].attrs["NDArrayNumDims"] = np.int32(3)
    found = open_recording(path)
    assert found.frames == 5
    np.testing.assert_array_equal(found.image(4), images[4])


def test_a_recorded_stream_of_rows_plays_as_it_was(tmp_path: Path) -> None:
    rows = IMAGES[:, 0]
    more = {ID: [3, 4, 6, 7, 9], EPOCH: np.zeros(5, int), TIMESTAMP: TIMES_S}
    found = open_recording(write(tmp_path / "rows.h5", **{DATA: rows}, **more))
    server = FakeServer()
    assert play(Player("c", found, server=server, due_s=steady(5, 1e6)), server) == [3, 4, 6, 7, 9]
    np.testing.assert_array_equal([image for _, image in server.sent], rows)


def test_our_own_recording_of_planes_is_no_grid_scan(tmp_path: Path) -> None:
    more = {ID: np.arange(3), EPOCH: np.zeros(3, int), TIMESTAMP: TIMES_S[:3]}
    found = open_recording(write(tmp_path / "planes.h5", **{DATA: SCAN}, **more))
    assert found.frames == 3
    np.testing.assert_array_equal(found.image(2), SCAN[2])


def test_an_eiger_master_file_plays_with_the_numbers_of_its_images(tmp_path: Path) -> None:
    found = open_recording(write_eiger(tmp_path, files=2, first=7))
    assert (found.frames, found.ids.tolist()) == (4, [7, 8, 9, 10])
    assert int(found.image(3)[0, 0]) == 10
    with pytest.raises(UsageError, match="--rate"):
        found.due_s()


@pytest.mark.parametrize("never", [0.0, 631152000.0], ids=["1970", "the EPICS epoch"])
def test_a_time_that_was_never_set_is_no_time(never: float) -> None:
    found = recording(times_s=np.array([never, 1.7e9, 1.7e9 + 1, never, 1.7e9 + 2]))
    np.testing.assert_allclose(found.due_s(), [0, 0, 1, 1, 2])
    with pytest.raises(UsageError, match="--rate"):
        recording(times_s=np.full(5, never)).due_s()


def test_a_pause_of_years_is_refused() -> None:
    times_s = np.array([5.0, 6.0, 1.7e9, 1.7e9 + 1, 1.7e9 + 2])
    with pytest.raises(UsageError, match=r"frame 2 would come 19676 days after .*--rate"):
        recording(times_s=times_s).due_s()


def test_a_recording_without_images_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = write(tmp_path / "numbers.h5", **{ID: [1, 2], EPOCH: [0, 0], "entry/fields/total": [1.0, 2.0]})
    with pytest.raises(DataError, match="recorded from a stream without images"):
        open_recording(path)


def test_what_is_no_hdf5_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with pytest.raises(DataError, match="no such file"):
        open_recording(path)
    path.write_text("no")
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        open_recording(path)
    write(tmp_path / "empty.h5", **{DATA: IMAGES, ID: np.zeros(0, int)})
    with pytest.raises(DataError, match="no whole frame"):
        open_recording(tmp_path / "empty.h5")


@pytest.mark.parametrize(
    ("times_s", "due_s"),
    [
        ([5.0, 6.0, 7.0, 8.0, 10.0], [0, 0.5, 1.0, 1.5, 2.5]),
        ([np.nan, 6.0, np.nan, 5.0, 8.0], [0, 0, 0, 0, 1.0]),
        ([5.0, 9.0, 7.0, 9.0, np.nan], [0, 2.0, 2.0, 2.0, 2.0]),
    ],
    ids=["whole", "holes", "back"],
)
def test_when_frames_are_due_at_double_speed(times_s: Any, due_s: Any) -> None:
    np.testing.assert_allclose(recording(times_s=np.array(times_s)).due_s(speed=2.0), due_s)


def test_ids_are_kept_with_their_gaps_and_repeat_as_a_new_epoch() -> None:
    server = FakeServer()
    player = Player("c", recording(), server=server, due_s=steady(5, 1e6), repeat=2)
    assert play(player, server) == [3, 4, 6, 7, 9] * 2
    assert server.probe["uniqueId"] == 2
    for index, (_, image) in enumerate(server.sent):
        np.testing.assert_array_equal(image, IMAGES[index % 5])


def test_ids_are_renumbered_and_frames_limited() -> None:
    server = FakeServer()
    player = Player("c", recording(), server=server, due_s=steady(5, 1e6), first_id=1, repeat=3, frames=12)
    assert play(player, server) == list(range(1, 13))


@pytest.mark.parametrize("ids", [[-1, 0, 1, 2, 3], [0, 1, 2, 3, MAX_FRAME_ID + 1]])
def test_ids_that_do_not_fit_are_refused(ids: list[int]) -> None:
    with pytest.raises(DataError, match=r"do not fit.*--first-id"):
        Player("c", recording(ids=np.array(ids)), server=FakeServer(), due_s=steady(5, 10))


def test_it_stops_when_told() -> None:
    server = FakeServer()
    player = Player("c", recording(), server=server, due_s=np.array([0, 0, 0, 60.0, 60.0]))
    player.serve_initial()
    report = player.run(lambda: len(server.sent) == 3)
    assert (report.sent, report.first_id, report.last_id) == (3, 3, 6)


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def read(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += max(seconds, 1e-6)


def test_a_pacer_follows_a_schedule() -> None:
    clock, due_s = FakeClock(), [0.0, 0.5, 0.6, 2.0]
    pacer = Pacer.along(lambda tick: due_s[tick], clock=clock.read, sleep=clock.sleep)
    came = []
    for _ in due_s:
        assert pacer.wait(lambda: False)
        came.append(clock.now_s - 50.0)
    np.testing.assert_allclose(came, due_s, atol=1e-4)
