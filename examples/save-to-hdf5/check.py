"""Read the saved files and compare every frame with what the simulator sent under its id.

beamcast run examples/save-to-hdf5/workflow.toml
python examples/save-to-hdf5/check.py
"""

import sys
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - h5py needs it to read bitshuffle/LZ4

from beamcast.config.load import load_workflow
from beamcast.sim.payload import PayloadMaker

HERE = Path(__file__).parent


def main(folder: Path) -> int:
    """Check all files of a folder; a frame that is in two of them is counted once."""
    simulation = load_workflow(HERE / "workflow.toml").workflow.source.simulate
    assert simulation is not None
    maker = PayloadMaker(simulation.shape, simulation.dtype, simulation.seed)
    good: set[int] = set()
    wrong = 0
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as file:
            ids = file["entry/frame/id"][:].tolist()
            for frame_id, image in zip(ids, file["entry/data/data"], strict=True):
                if maker.verify(image, frame_id):
                    good.add(frame_id)
                else:
                    wrong += 1
        print(f"{path.name}: {len(ids)} frames, {path.stat().st_size / 2**20:.1f} MiB")
    print(f"{len(good)} of {simulation.frames} frames are saved as they were sent, {wrong} are wrong")
    return int(bool(wrong) or len(good) != simulation.frames)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "frames"))
