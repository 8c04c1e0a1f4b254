"""The picture in an example's README, made from a run of the example.

    python examples/picture.py bragg-peaks

runs the example with one more pool behind its results, which keeps what comes, and draws `result.png` beside the
README. It needs `pip install matplotlib`, and h5py with hdf5plugin for save-to-hdf5.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
import numpy as np

from beamcast.sim.payload import PayloadMaker

HERE = Path(__file__).parent
Rows = list[dict[str, Any]]

KEEP = '''
import json

import numpy as np


class Keep:
    """Writes the fields of each result as a line of JSON, and the image of frame 1 as NumPy's file."""

    def __init__(self, *, file: str) -> None:
        self.name, self.file = file, open(file, "a")

    def process(self, frame):
        if frame.pv.hasField("dimension"):
            if frame.id == 1:
                np.save(self.name + ".npy", frame.image)
            return
        values = {name: value for name, value in frame.pv.toDict().items() if name != "timeStamp"}
        line = json.dumps({"id": frame.id, **values}, default=lambda value: value.tolist())
        self.file.write(line + "\\n")

    def stop(self):
        self.file.close()
'''


def run(example: str, folder: Path, *, behind: str, command: list[str]) -> Rows:
    """Run a copy of an example in `folder` with a pool that keeps the outputs of `behind`; what it kept, by id."""
    shutil.copytree(HERE / example, folder, dirs_exist_ok=True)
    kept = folder / "kept.jsonl"
    (folder / "keep.py").write_text(KEEP)
    with (folder / "workflow.toml").open("a") as workflow:
        workflow.write(f'\n[[pools]]\nname = "keep"\nrole = "consumer"\ninput = "{behind}"\n')
        workflow.write(f'processor = "keep.py:Keep"\nparams = {{ file = {json.dumps(str(kept))} }}\n')
    subprocess.run([sys.executable, *command], cwd=folder, check=True)
    return sorted(map(json.loads, kept.read_text().splitlines()), key=lambda row: row["id"])


def beamcast_run(example: str, folder: Path, *, behind: str) -> Rows:
    """The same, by `beamcast run`."""
    return run(example, folder, behind=behind, command=["-m", "beamcast", "run", "workflow.toml"])


def first_light(folder: Path) -> None:
    """The centre of mass of the first frames."""
    rows = beamcast_run("first-light", folder, behind="collect")[:64]
    _, axes = plt.subplots()
    for name in ("centre_row", "centre_column"):
        axes.plot([row["id"] for row in rows], [row[name] for row in rows], ".-", linewidth=0.8, label=name)
    axes.set(xlabel="frame id", ylabel="pixels")
    axes.legend()


def metadata(folder: Path) -> None:
    """What was measured at each position of the motor."""
    rows = beamcast_run("metadata", folder, behind="gather")
    _, axes = plt.subplots()
    axes.plot([row["motor"] for row in rows], [row["intensity"] for row in rows], ".", markersize=3)
    axes.set(xlabel="motor", ylabel="intensity / ring current", yscale="log")


def save_to_hdf5(folder: Path) -> None:
    """Some of the saved frames."""
    import h5py
    import hdf5plugin  # noqa: F401 - h5py needs it to read bitshuffle/LZ4

    beamcast_run("save-to-hdf5", folder, behind="where")
    path = min((folder / "frames").glob("*.h5"))
    _, panels = plt.subplots(1, 4, sharey=True)
    with h5py.File(path) as file:
        for number, panel in enumerate(panels):
            panel.imshow(file["entry/data/data"][number], cmap="viridis")
            panel.set_title(f"id {file['entry/frame/id'][number]}", fontsize=8)
    plt.gcf().set_size_inches(7, 2.2)


def split_stitch(folder: Path) -> None:
    """A frame as it was sent, and as four ranks made it, with the borders of their tiles."""
    beamcast_run("split-stitch", folder, behind="stitch")
    image = np.load(folder / "kept.jsonl.npy")
    _, panels = plt.subplots(1, 2, sharey=True)
    for panel, shown, title in zip(
        panels, (PayloadMaker(image.shape, "uint8", 4).make(1), image), ("source", "result"), strict=True
    ):
        panel.imshow(
            shown[::8, ::8], cmap="gray", vmin=0, vmax=255, extent=(0, image.shape[1], image.shape[0], 0)
        )
        panel.set_title(title)
        panel.axhline(image.shape[0] / 2, color="tab:orange", linewidth=0.8)
        panel.axvline(image.shape[1] / 2, color="tab:orange", linewidth=0.8)
    plt.gcf().set_size_inches(7, 2.6)


def bragg_peaks(folder: Path) -> None:
    """A frame and its peaks."""
    rows = beamcast_run("bragg-peaks", folder, behind="collect")
    sys.path.insert(0, str(folder))
    from far_field import FarField

    class First:
        id, image = 1, np.empty((256, 256))

    _, axes = plt.subplots()
    axes.imshow(np.log(FarField().process(First())), cmap="gray_r", vmin=np.log(40))  # the noise is below
    axes.plot(rows[0]["column"], rows[0]["row"], "o", markersize=9, markerfacecolor="none", color="tab:red")
    axes.set(title=f"frame 1: {rows[0]['count']} peaks", xlabel="column", ylabel="row")


def ptychography(folder: Path) -> None:
    """The gradient at each position of the scan."""
    rows = beamcast_run("ptychography", folder, behind="collect")
    _, axes = plt.subplots()
    for number, name in enumerate(("vertical", "horizontal")):
        axes.plot(
            [row["x"] for row in rows], [row["gradient"][number] for row in rows], linewidth=0.8, label=name
        )
    axes.set(xlabel="x of the scan stage", ylabel="gradient (pixels)", xlim=(0, 10000))
    axes.legend()


def orbit(folder: Path) -> None:
    """The orbit round the ring, as one object gave it, and its spread."""
    rows = run("orbit", folder, behind="collect", command=["demo.py"])
    mean, spread = np.array(rows[-1]["orbit"]), np.array(rows[-1]["spread"])
    _, axes = plt.subplots()
    axes.fill_between(np.arange(mean.size), mean - spread, mean + spread, alpha=0.4, label="spread")
    axes.plot(mean, linewidth=0.8, label="orbit")
    axes.set(title=f"object {rows[-1]['id']}", xlabel="monitor", ylabel="position (µm)")
    axes.legend()


PICTURES: dict[str, Callable[[Path], None]] = {
    "bragg-peaks": bragg_peaks,
    "first-light": first_light,
    "metadata": metadata,
    "orbit": orbit,
    "ptychography": ptychography,
    "save-to-hdf5": save_to_hdf5,
    "split-stitch": split_stitch,
}


def main(examples: list[str]) -> int:
    """Draw the pictures of the examples that are named."""
    unknown = [example for example in examples if example not in PICTURES]
    if unknown or not examples:
        print(f"name one or more of: {', '.join(PICTURES)}", file=sys.stderr)
        return 2
    plt.rcParams.update({"figure.figsize": (5, 3.6), "savefig.dpi": 100, "font.size": 9})
    for example in examples:
        with tempfile.TemporaryDirectory(prefix="picture-") as folder:
            PICTURES[example](Path(folder))
        plt.savefig(HERE / example / "result.png", bbox_inches="tight")
        plt.close("all")
        print(f"drew {HERE / example / 'result.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
