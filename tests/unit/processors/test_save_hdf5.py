"""`SaveHdf5` and `RecordHdf5`: files that are whole, whatever happens while they are written."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - to read what was compressed
import numpy as np
import pvaccess
import pytest
from file_fakes import SHAPE, context, frame, frames, image_of

from beamcast.config.units import Bytes
from beamcast.core.errors import DataError, UsageError, WorldError
from beamcast.core.frame_layout import DATA, EPOCH, FIELDS, ID, METADATA, TIMESTAMP
from beamcast.core.ids import FrameKey
from beamcast.pools.frame import Frame
from beamcast.pools.native import NativeProcessor
from beamcast.pools.params import checked_arguments
from beamcast.processors.frame_file import FrameFile
from beamcast.processors.hdf5 import RecordHdf5, SaveHdf5
from beamcast.pva.ndarray import ImageReader
from beamcast.sim.playback import open_recording


def started(base: Path, *, rank: int = 3, **options: Any) -> SaveHdf5:
    processor = SaveHdf5(folder="data", **options)
    processor.start(context(base, rank=rank))
    return processor


def files(base: Path) -> list[str]:
    return sorted(path.name for path in (base / "data").iterdir())


def ids(base: Path) -> list[list[int]]:
    """Of each file; every image must be the one of its id."""
    found = []
    for name in files(base):
        with h5py.File(base / "data" / name) as file:
            found.append(file[ID][:].tolist())
            assert len(file[DATA]) == len(file[ID]) == len(file[TIMESTAMP]) == len(file[EPOCH])
            for row, number in enumerate(file[ID]):
                if file[DATA].shape[1:] == SHAPE:
                    np.testing.assert_array_equal(file[DATA][row], image_of(int(number)))
    return found


@pytest.mark.parametrize("compression", ["none", "gzip", "lz4", "bslz4", "blosc", "zstd"])
def test_frames_come_back_with_id_epoch_and_time(compression: Any, tmp_path: Path) -> None:
    processor = started(tmp_path, compression=compression)
    given = [frame(1), frame(2), frame(2, epoch=1)]
    assert processor.process_batch(given) == [one.pv for one in given]
    processor.stop()
    assert ids(tmp_path) == [[1, 2, 2]]
    with h5py.File(tmp_path / "data" / "r1-save-0003-00000.h5") as file:
        assert file[DATA].chunks == (1, *SHAPE)
        assert file[DATA].dtype == np.uint16
        assert file[EPOCH][:].tolist() == [0, 0, 1]
        assert file[TIMESTAMP][:].tolist() == [1001.5, 1002.5, 1002.5]
        assert dict(file["entry"].attrs)["rank"] == 3
        # What NeXus readers follow to find the image.
        assert file[f"{file.attrs['default']}/{file['entry'].attrs['default']}"].attrs["signal"] == "data"
        filters = file[DATA].id.get_create_plist().get_nfilters()
        assert bool(filters) == (compression != "none")


def test_files_end_at_the_number_of_frames_also_within_a_batch(tmp_path: Path) -> None:
    processor = started(tmp_path, max_frames=4, publish="place")
    places = [*processor.process_batch(frames(0, 6)), *processor.process_batch(frames(6, 5))]
    assert [place["index"] for place in places] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2]
    assert [Path(place["file"]).name[-4] for place in places] == list("00001111222")
    assert [name.endswith(".partial") for name in files(tmp_path)] == [False, False, True]
    processor.stop()
    assert ids(tmp_path) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert processor.stats() == {"saved": 11, "files": 3, "metadataIgnored": 0, "file": ""}


def test_files_end_when_they_are_large(tmp_path: Path) -> None:
    processor = started(tmp_path, max_size=Bytes(1 << 20), compression="none")
    images = [np.full((256, 512), number, np.uint16) for number in range(10)]
    for number, image in enumerate(images):
        processor.process_batch([frame(number, image)])
    processor.stop()
    sizes = [path.stat().st_size for path in (tmp_path / "data").iterdir()]
    assert len(sizes) >= 2
    assert all(size < (1 << 20) + 2 * images[0].nbytes for size in sizes)
    assert [number for one in ids(tmp_path) for number in one] == list(range(10))


def test_other_images_go_into_another_file(tmp_path: Path) -> None:
    processor = started(tmp_path)
    other = frame(2, image_of(2, (3, 4)))
    wider = frame(3, image_of(3).astype(np.uint32))
    processor.process_batch([frame(1), other, wider, frame(4), frame(5)])
    processor.stop()
    assert ids(tmp_path) == [[1], [2], [3], [4, 5]]


def test_a_reader_follows_while_the_file_grows(tmp_path: Path) -> None:
    processor = started(tmp_path)
    processor.process_batch(frames(0, 3))
    partial = tmp_path / "data" / "r1-save-0003-00000.h5.partial"
    read = (
        "import h5py, hdf5plugin, sys\n"
        "f = h5py.File(sys.argv[1], swmr=True)\n"
        f"d, i = f['{DATA}'], f['{ID}']\n"
        "print(len(i), int(d[:].sum()), flush=True)\n"
        "sys.stdin.readline()\n"
        "i.refresh(); d.refresh()\n"
        "print(len(i), int(d[:].sum()), flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", read, str(partial)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdin is not None
        assert reader.stdout.readline().split() == ["3", str(sum(int(image_of(n).sum()) for n in range(3)))]
        processor.process_batch(frames(3, 2))
        reader.stdin.write("\n")
        reader.stdin.flush()
        assert reader.stdout.readline().split() == ["5", str(sum(int(image_of(n).sum()) for n in range(5)))]
    assert reader.returncode == 0
    processor.stop()
    assert ids(tmp_path) == [[0, 1, 2, 3, 4]]


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from file_fakes import context, frames
from beamcast.processors.hdf5 import SaveHdf5

processor = SaveHdf5(folder="data", max_frames=10)
processor.start(context(Path(sys.argv[2])))
for first in range(0, 25, 5):
    processor.process_batch(frames(first, 5))
os.kill(os.getpid(), 9)
"""


def test_a_killed_rank_leaves_whole_files_and_all_that_it_acknowledged(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path)]
    assert subprocess.run(arguments, check=False).returncode == -9
    names = files(tmp_path)
    assert names == [f"r1-save-0003-0000{n}.h5{'.partial' if n == 2 else ''}" for n in range(3)]
    with h5py.File(tmp_path / "data" / names[2], swmr=True) as file:
        assert file[ID][:].tolist() == [20, 21, 22, 23, 24]
        np.testing.assert_array_equal(file[DATA][4], image_of(24))
    # The rank that takes its place goes on behind it.
    processor = started(tmp_path)
    processor.process_batch(frames(25, 1))
    processor.stop()
    assert files(tmp_path)[3:] == ["r1-save-0003-00003.h5"]
    with h5py.File(tmp_path / "data" / names[0]) as file:
        assert file[ID][:].tolist() == list(range(10))


def update(number: int, structure: dict[str, Any], values: dict[str, Any]) -> Frame:
    """A frame that is no image, at 1000.5 s and its number."""
    pv = pvaccess.PvObject(
        {**structure, "uniqueId": pvaccess.LONG, "timeStamp": pvaccess.PvTimeStamp()},
        {**values, "uniqueId": number, "timeStamp": pvaccess.PvTimeStamp(1000.5 + number)},
    )
    return Frame(pv, FrameKey(number), ImageReader())


STRUCTURE = {
    "total": pvaccess.DOUBLE,
    "count": pvaccess.INT,
    "good": pvaccess.BOOLEAN,
    "name": pvaccess.STRING,
    "peaks": [pvaccess.FLOAT],
    "names": [pvaccess.STRING],
    "fit": {"width": pvaccess.DOUBLE},
    "either": ({"a": pvaccess.INT},),
}


def test_what_a_pool_of_dictionaries_publishes_is_saved_by_fields(tmp_path: Path) -> None:
    """P18: every frame failed. Arrays may have another length in each frame."""
    processor = started(tmp_path, batch=4)
    given = [
        update(
            number,
            STRUCTURE,
            {
                "total": number / 2,
                "count": number,
                "good": bool(number % 2),
                "name": f"n{number}",
                "peaks": list(range(number)),
                "names": ["ä"] * (number % 3),
                "fit": {"width": number * 2.0},
            },
        )
        for number in range(7)
    ]
    assert processor.process_batch(given[:4]) == [one.pv for one in given[:4]]
    processor.process_batch(given[4:])
    with h5py.File(tmp_path / "data" / "r1-save-0003-00000.h5.partial", swmr=True) as growing:
        assert growing["entry/fields/total"][:].tolist() == [number / 2 for number in range(7)]
    processor.stop()
    with h5py.File(tmp_path / "data" / "r1-save-0003-00000.h5") as file:
        fields = file[FIELDS]
        assert file[ID][:].tolist() == list(range(7))
        assert file[TIMESTAMP][:].tolist() == [1000.5 + number for number in range(7)]
        assert fields["count"].dtype == np.int32
        assert fields["good"][:].tolist() == [False, True, False, True, False, True, False]
        assert fields["name"][:].tolist() == [b"n%d" % number for number in range(7)]
        assert fields["fit.width"][:].tolist() == [number * 2.0 for number in range(7)]
        values, ends = fields["peaks/values"], [0, *fields["peaks/end"][:]]
        assert values.dtype == np.float32
        for number in range(7):
            assert values[ends[number] : ends[number + 1]].tolist() == list(range(number))
        assert fields["names/end"][:].tolist() == [0, 1, 3, 3, 4, 6, 6]
        assert set(fields["names/values"][:].tolist()) == {"ä".encode()}
        assert fields.attrs["left_out"].tolist() == ["either"]
        assert DATA not in file


def test_scalars_can_be_recorded_and_images_between_them_are_refused(tmp_path: Path) -> None:
    """P18: a channel of numbers, as an IOC serves it."""
    processor = RecordHdf5(file="scalars.h5")
    processor.start(context(tmp_path))
    structure = {"value": pvaccess.DOUBLE, "alarm": pvaccess.PvAlarm()}
    processor.process_batch([update(number, structure, {"value": number + 0.25}) for number in range(3)])
    with pytest.raises(
        DataError, match=r"an image of \(6, 8\) uint16 does not fit .* fields are value, alarm.severity"
    ):
        processor.process_batch([frame(3)])
    processor.stop()
    with h5py.File(tmp_path / "scalars.h5") as file:
        assert file[f"{FIELDS}/value"][:].tolist() == [0.25, 1.25, 2.25]
    with pytest.raises(DataError, match="stream without images"):
        open_recording(tmp_path / "scalars.h5")


def test_other_fields_and_images_go_into_files_of_their_own(tmp_path: Path) -> None:
    processor = started(tmp_path, publish="place")
    number, text = {"value": pvaccess.DOUBLE}, {"value": pvaccess.STRING}
    mixed = [update(0, number, {"value": 1.0}), update(1, text, {"value": "a"}), frame(2)]
    assert [place["index"] for place in processor.process_batch(mixed)] == [0, 0, 0]
    processor.stop()
    assert len(files(tmp_path)) == 3


def test_an_update_with_nothing_to_save_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither an image nor a number or text"):
        started(tmp_path).process_batch([update(1, {"either": ({"a": pvaccess.INT},)}, {})])


def test_ranks_do_not_touch_each_others_files(tmp_path: Path) -> None:
    processors = [started(tmp_path, rank=rank) for rank in range(3)]
    for rank, processor in enumerate(processors):
        processor.process_batch(frames(rank * 10, 2))
    for processor in processors:
        processor.stop()
    assert ids(tmp_path) == [[0, 1], [10, 11], [20, 21]]


def test_a_bad_frame_does_not_cost_or_double_its_neighbours(tmp_path: Path) -> None:
    """As the rank calls it: a batch that raises is tried again frame by frame."""
    processor = started(tmp_path)
    batch = frames(1, 3)
    batch[1].pv.setString("codec.name", "nix")
    with pytest.raises(DataError, match="nix"):
        processor.process_batch(batch)
    processor.process_batch(batch[:1])
    with pytest.raises(DataError, match="nix"):
        processor.process_batch(batch[1:2])
    processor.process_batch(batch[2:])
    processor.stop()
    assert ids(tmp_path) == [[1, 3]]


def test_a_disk_that_refuses_for_a_while_costs_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = started(tmp_path, max_frames=2, publish="place")
    processor.process_batch(frames(0, 1))
    write, calls = FrameFile._write, []

    def refuse(self: FrameFile, *arguments: Any) -> None:
        calls.append(self.path.name)
        if len(calls) == 2:
            write(self, *arguments)
            raise OSError(28, "No space left on device")
        write(self, *arguments)

    monkeypatch.setattr(FrameFile, "_write", refuse)
    batch = frames(1, 3)
    with pytest.raises(WorldError, match="No space left"):
        processor.process_batch(batch)
    assert processor.process_batch(batch[:1])[0]["index"] == 1, "saved by the call that failed"
    with pytest.raises(WorldError, match="another try comes within 5 s"):
        processor.process_batch(batch[1:2])
    monkeypatch.setattr(processor, "_clock", lambda: time.monotonic() + 5)
    places = [processor.process_batch([one])[0] for one in batch[1:]]
    assert [place["index"] for place in places] == [0, 1]
    processor.stop()
    assert ids(tmp_path) == [[0, 1], [2, 3]]


FULL = """
import os, resource, signal, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from file_fakes import context, frame, image_of
from beamcast.core.errors import WorldError
from beamcast.processors.hdf5 import SaveHdf5

def save(number):
    try:
        processor.process_batch([frame(number, image_of(number, (100, 100)))])
    except WorldError:
        return
    print(number)

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
processor = SaveHdf5(folder="data", compression="none")
processor.start(context(Path(sys.argv[2])))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
for number in range(12):
    save(number)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
processor._clock = lambda: time.monotonic() + 100
for number in range(12, 20):
    save(number)
processor.stop()
sys.stdout.flush()
os._exit(0)  # as every process of beamcast ends: HDF5 would close the file, and crash
"""


def test_what_was_saved_before_and_after_the_disk_refused_is_whole(tmp_path: Path) -> None:
    """With the real HDF5, whose file loses frames when it is written on after a failure."""
    arguments = [sys.executable, "-c", FULL, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    told = [int(number) for number in done.stdout.split()]
    assert 2 < len(told) < 20
    assert told[-8:] == list(range(12, 20))
    found = []
    for name in files(tmp_path):
        with h5py.File(tmp_path / "data" / name, swmr=name.endswith(".partial")) as file:
            for number, image in zip(file[ID][:].tolist(), file[DATA], strict=False):
                np.testing.assert_array_equal(image, image_of(number, (100, 100)))
                found.append(number)
    assert sorted(found) == told


def test_a_disk_with_too_little_room_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processor = started(tmp_path)
    processor.process_batch(frames(0, 1))
    real = os.statvfs(tmp_path)
    with monkeypatch.context() as patched:
        few = os.statvfs_result((*real[:3], 7, 7, *real[5:]))
        patched.setattr(os, "statvfs", lambda path: few)
        with pytest.raises(WorldError, match=f"data has {7 * real.f_frsize} bytes left"):
            processor.process_batch(frames(1, 1))
    processor.process_batch(frames(1, 1))
    processor.stop()
    assert ids(tmp_path) == [[0, 1]]


def test_a_recording_ends_where_the_disk_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: FrameFile, *arguments: Any) -> None:
        raise RuntimeError("Unable to synchronously flush file")

    recorder = RecordHdf5(file="one.h5")
    recorder.start(context(tmp_path))
    recorder.process_batch(frames(0, 2))
    with monkeypatch.context() as patched:
        patched.setattr(FrameFile, "_write", refuse)
        with pytest.raises(WorldError, match="Unable to synchronously flush"):
            recorder.process_batch(frames(2, 1))
    with pytest.raises(WorldError, match="could not be written before"):
        recorder.process_batch(frames(3, 1))
    recorder.stop()
    with h5py.File(tmp_path / "one.h5.partial") as file:
        assert file[ID][:].tolist() == [0, 1]


def test_metadata_goes_beside_the_frames(tmp_path: Path) -> None:
    processor = started(tmp_path)
    first = {
        "motor/x": 1.5,
        "shots": 7,
        "state": "open",
        "roi": [1, 2],
        "odd": object(),
        "motor|x": 2.0,
        ".": 1,
    }
    second = {"motor/x": "broken", "shots": 8, "state": "ü" * 200, "roi": [1, 2, 3], "late": 1.0}
    processor.process_batch([frame(1, metadata=first), frame(2, metadata=second), frame(3)])
    processor.stop()
    with h5py.File(tmp_path / "data" / "r1-save-0003-00000.h5") as file:
        group = file[METADATA]
        assert set(group) == {"motor|x", "shots", "state", "roi"}
        np.testing.assert_array_equal(group["motor|x"], [1.5, np.nan, np.nan])
        np.testing.assert_array_equal(group["shots"], [7, 8, np.nan])
        np.testing.assert_array_equal(group["roi"], [[1, 2], [np.nan] * 2, [np.nan] * 2])
        assert group["state"][0] == b"open"
        assert group["state"][1].decode() == "ü" * 128
        assert group["state"][2] == b""
    assert processor.stats()["metadataIgnored"] == 6, "odd, twice, dot; broken x, roi of another length, late"


def test_a_rank_without_frames_leaves_nothing(tmp_path: Path) -> None:
    processor = started(tmp_path)
    processor.stop()
    assert files(tmp_path) == []


def test_an_image_that_no_file_takes_leaves_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FrameFile, *arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    processor = started(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(FrameFile, "_lay_out", refuse)
        with pytest.raises(WorldError, match="No space left"):
            processor.process_batch(frames(0, 1))
        assert files(tmp_path) == []
    monkeypatch.setattr(processor, "_clock", lambda: time.monotonic() + 5)
    processor.process_batch(frames(0, 1))
    processor.stop()
    assert ids(tmp_path) == [[0]]


def test_the_rank_sees_what_it_publishes() -> None:
    native = NativeProcessor(SaveHdf5(folder="x", publish="place", batch=5), spec="s")
    assert native.batch == 5
    assert native.fields == [{"file": str, "index": int}]
    assert set(native.stats_types()) == {"saved", "files", "metadataIgnored", "file"}


def test_parameters_are_checked(tmp_path: Path) -> None:
    values = checked_arguments(SaveHdf5, {"folder": "x", "max_size": "2 GiB"}, what="SaveHdf5")
    assert values["max_size"] == 2 << 30
    with pytest.raises(UsageError, match="compression"):
        checked_arguments(SaveHdf5, {"folder": "x", "compression": "zip"}, what="SaveHdf5")
    with pytest.raises(UsageError, match="1 or more"):
        SaveHdf5(folder="x", max_frames=0)
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(UsageError, match="data can't be made"):
        started(tmp_path)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match=r"beamcast\[files\]"):
        SaveHdf5(folder="x")


def test_a_recording_holds_exactly_the_frames_that_were_asked_for(tmp_path: Path) -> None:
    recorder = RecordHdf5(file="one.h5", max_frames=5)
    recorder.start(context(tmp_path))
    results = [*recorder.process_batch(frames(0, 3)), *recorder.process_batch(frames(3, 4))]
    assert [result is not None for result in results] == [True] * 5 + [False] * 2
    assert recorder.process_batch(frames(7, 1)) == [None]
    recorder.stop()
    with h5py.File(tmp_path / "one.h5") as file:
        assert file[ID][:].tolist() == [0, 1, 2, 3, 4]
    assert list(tmp_path.iterdir()) == [tmp_path / "one.h5"]


def test_a_recording_replaces_nothing_and_refuses_other_images(tmp_path: Path) -> None:
    recorder = RecordHdf5(file="one.h5")
    recorder.start(context(tmp_path))
    recorder.process_batch(frames(0, 1))
    with pytest.raises(DataError, match=r"does not fit into one\.h5"):
        recorder.process_batch([frame(1, image_of(1, (2, 2)))])
    again = RecordHdf5(file="one.h5")
    again.start(context(tmp_path))
    with pytest.raises(UsageError, match=r"one\.h5\.partial is there already"):
        again.process_batch(frames(5, 1))
    recorder.stop()
    with pytest.raises(UsageError, match=r"one\.h5 is there already"):
        again.process_batch(frames(5, 1))
    again.stop()
    with h5py.File(tmp_path / "one.h5") as file:
        assert file[ID][:].tolist() == [0]
