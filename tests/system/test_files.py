"""Frames into files and back, as a user has it: commands, real pvAccess, files read by others' libraries."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - to read what was compressed
import numpy as np
import pytest
import tifffile
from launching import site_here

from beamcast.core.frame_layout import DATA, ID, TIMESTAMP
from beamcast.sim.payload import PayloadMaker

pytestmark = [pytest.mark.system, pytest.mark.timeout(200)]
SHAPE = (48, 64)
WHERE = re.compile(r"at (127\.0\.0\.1:[0-9]+)")

FIRST_PORT = 30000

SOURCE = """
name = "{name}"
prefix = "{prefix}"
{more}
[deadlines]
drain = "30 s"
[source]
channel = "{prefix}:image"
[source.simulate]
frames = {frames}
rate = "50 Hz"
shape = [48, 64]
dtype = "uint16"
first_id = 1
"""


def environment() -> dict[str, str]:
    """Without the shell's EPICS settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EPICS_")}
    return {**kept, "NO_COLOR": "1", "TERM": "dumb", "PYTHONUNBUFFERED": "1"}


def beamcast(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "beamcast", *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


@contextmanager
def simulating(channel: str, *arguments: str, cwd: Path) -> Iterator[str]:
    """A simulator; gives its address:port. Killed if it is still there at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "beamcast", "sim", channel, *arguments],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        found = next((match[1] for line in process.stdout if (match := WHERE.search(line))), None)
        assert found is not None, "the simulator ended without saying where it serves"
        yield found
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def record(channel: str, file: str, *arguments: str, server: str, cwd: Path) -> dict[str, Any]:
    done = beamcast("record", channel, file, *arguments, "--json", "--name-server", server, cwd=cwd)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_what_is_recorded_plays_back_with_its_images_ids_and_times(tmp_path: Path) -> None:
    channel = f"bcf:{os.getpid()}:record"
    with simulating(
        channel, "--rate", "40", "--shape", "48x64", "--dtype", "uint16", "--seed", "3", cwd=tmp_path
    ) as server:
        report = record(channel, "my take 1.h5", "--frames", "50", server=server, cwd=tmp_path)
    assert report["processed"] == 50
    assert (report["failed"], report["missing"]) == (0, 0)
    with h5py.File(tmp_path / "my take 1.h5") as file:
        ids, times_s, images = file[ID][:], file[TIMESTAMP][:], file[DATA][:]
    maker = PayloadMaker(SHAPE, "uint16", seed=3)
    assert all(maker.verify(image, int(number)) for number, image in zip(ids, images, strict=True))

    play = ["--from", "my take 1.h5", "--repeat", "100"]
    with simulating(channel, *play, cwd=tmp_path) as server:
        record(channel, "again.h5", "--frames", "50", server=server, cwd=tmp_path)
    with h5py.File(tmp_path / "again.h5") as file:
        again, again_s, played = file[ID][:], file[TIMESTAMP][:], file[DATA][:]
    # It may begin anywhere in a pass; from there on the frames follow as they did.
    offsets = [np.flatnonzero(ids == number)[0] for number in again]
    assert np.all(np.diff(offsets) % 50 == 1)
    np.testing.assert_array_equal(played, images[offsets])
    whole_pass_s = (times_s[-1] - times_s[0]) * (1 + 1 / 49)
    assert again_s[-1] - again_s[0] == pytest.approx(whole_pass_s * 49 / 50, rel=0.3)


def test_a_rate_and_new_ids_may_be_given_for_playback(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bare.h5", "w") as file:
        file["scan/frames"] = np.arange(20 * 6 * 8, dtype=np.int32).reshape(20, 6, 8)
    channel = f"bcf:{os.getpid()}:bare"
    bare = ["--from", "bare.h5", "--dataset", "scan/frames"]
    refused = beamcast("sim", channel, *bare, cwd=tmp_path)
    assert refused.returncode == 2
    assert "does not say when its frames were taken. give --rate" in refused.stderr
    done = beamcast(
        "sim", channel, *bare, "--rate", "200", "--first-id", "7", "--linger", "0", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["sent"], report["first_id"], report["last_id"]) == (20, 7, 26)
    assert report["rate_hz"] == pytest.approx(200, rel=0.2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["record", "c", "there.h5"], "there.h5 is there already"),
        (["record", "c", "nodir/x.h5"], "no folder"),
        (["record", "c", "x.h5", "--compression", "zip"], "--compression is one of none, gzip, lz4"),
        (["sim", "c", "--from", "there.h5"], "cannot be read as HDF5"),
        (["sim", "c", "--from", "there.h5", "--file", "x.npy"], "--from goes with neither --file"),
        (["sim", "c", "--speed", "2"], "give --from too"),
    ],
)
def test_wrong_commands_say_what_is_wrong(arguments: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "there.h5").write_text("precious")
    done = beamcast(*arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert words in done.stderr
    assert (tmp_path / "there.h5").read_text() == "precious"


def test_nothing_recorded_is_a_failure(tmp_path: Path) -> None:
    channel = f"bcf:{os.getpid()}:idle"
    with simulating(channel, "--delay", "60", cwd=tmp_path) as server:
        done = beamcast("record", channel, "x.h5", "--seconds", "0.3", "--name-server", server, cwd=tmp_path)
    assert done.returncode == 1
    assert "no frame came" in done.stderr
    assert list(tmp_path.iterdir()) == []


def run(
    folder: Path, name: str, pools: str, *, frames: int, more: str = "", ends: tuple[int, ...] = (0,)
) -> dict[str, Any]:
    """The report of a run that ends with one of the statuses `ends`."""
    head = SOURCE.format(name=name, prefix=f"bcf:{os.getpid()}:{name}", frames=frames, more=more)
    (folder / "workflow.toml").write_text(head + pools)
    (folder / "site.toml").write_text(site_here(FIRST_PORT))
    done = beamcast(
        "run", "workflow.toml", "--site", "site.toml", "--name", name, "--run-dir", "run", cwd=folder
    )
    assert done.returncode in ends, done.stderr[-6000:]
    report: dict[str, Any] = json.loads((folder / "run" / "report.json").read_text())
    return report


def saved(folder: Path) -> dict[int, int]:
    """How often each id is in the files of a folder; every image is the one of its id."""
    maker = PayloadMaker(SHAPE, "uint16", seed=0)
    counts: dict[int, int] = {}
    for path in folder.iterdir():
        with h5py.File(path, swmr=path.suffix == ".partial") as file:
            for number, image in zip(file[ID][:].tolist(), file[DATA], strict=False):
                assert maker.verify(image, number), (path, number)
                counts[number] = counts.get(number, 0) + 1
    return counts


CHAIN = """
[[pools]]
name = "pack"
role = "consumer"
input = "source"
processor = "beamcast.processors.codecs:Compress"
params = { codec = "bslz4" }

[[pools]]
name = "save"
role = "consumer"
input = "pack"
ranks = 2
processor = "beamcast.processors.hdf5:SaveHdf5"
params = { folder = "data files", compression = "zstd", max_frames = 20 }

[[pools]]
name = "pictures"
role = "collector"
input = "save"
processor = "beamcast.processors.images:SaveImages"
params = { folder = "pictures" }

[[pools]]
name = "statistics"
role = "consumer"
input = "pictures"
processor = "beamcast.processors.statistics:FrameStatistics"

[[pools]]
name = "numbers"
role = "consumer"
input = "statistics"
processor = "beamcast.processors.hdf5:SaveHdf5"
params = { folder = "numbers" }
"""


def test_a_chain_compresses_saves_and_saves_pictures_and_numbers(tmp_path: Path) -> None:
    """P18 too: the last pool saves what one of dictionaries publishes."""
    report = run(tmp_path, "chain", CHAIN, frames=100)
    assert report["frames"]["lost"] == report["frames"]["failed"] == 0
    assert saved(tmp_path / "data files") == dict.fromkeys(range(1, 101), 1)
    assert {path.suffix for path in (tmp_path / "data files").iterdir()} == {".h5"}
    maker = PayloadMaker(SHAPE, "uint16", seed=0)
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert [int(path.stem.rpartition("-")[2]) for path in pictures] == list(range(1, 101))
    assert all(maker.verify(tifffile.imread(path), number) for number, path in enumerate(pictures, 1))
    (numbers,) = (tmp_path / "numbers").iterdir()
    with h5py.File(numbers) as file:
        found = dict(zip(file[ID][:].tolist(), file["entry/fields/maximum"][:].tolist(), strict=True))
    assert found == {number: float(maker.make(number).max()) for number in range(1, 101)}


DYING = '''
import os
from pathlib import Path

from beamcast.processors.hdf5 import SaveHdf5


class Dying:
    """Saves frames; rank 0 is killed once, in the middle of them."""

    batch = 4

    def __init__(self, *, folder: str):
        self._save = SaveHdf5(folder=folder)

    def start(self, context):
        self._marker = Path(context.base) / "died"
        self._mortal = context.place.rank == 0
        self._save.start(context)

    def process_batch(self, frames):
        results = self._save.process_batch(frames)
        if self._mortal and frames[-1].id > 60 and not self._marker.exists():
            self._marker.touch()
            os.kill(os.getpid(), 9)
        return results

    def stop(self):
        self._save.stop()
'''

DYING_POOL = """
[[pools]]
name = "save"
role = "consumer"
input = "source"
ranks = 2
processor = "dying.py:Dying"
params = { folder = "data" }
"""


@pytest.mark.slow
def test_a_rank_killed_while_it_saves_loses_no_frame(tmp_path: Path) -> None:
    (tmp_path / "dying.py").write_text(DYING)
    # 3: what a rank acknowledged to the mirror in its last moment, and had no time to tell the controller, may be in
    # the report as lost. It is in the files, and that is what counts here.
    report = run(tmp_path, "dying", DYING_POOL, frames=200, more='delivery = "at-least-once"', ends=(0, 3))
    assert (tmp_path / "died").exists()
    assert report["frames"]["failed"] == 0
    counts = saved(tmp_path / "data")
    assert sorted(counts) == list(range(1, 201))
    # What the dead rank had written and not yet told is saved again by another.
    assert sum(counts.values()) - 200 < 100
    partial = [path.name for path in (tmp_path / "data").iterdir() if path.suffix == ".partial"]
    assert len(partial) == 1, "of the dead rank; all others are whole"
