"""Files as an Eiger detector writes them."""

from pathlib import Path

import h5py
import numpy as np


def write_eiger(folder: Path, *, files: int, first: int = 1) -> Path:
    """A master file with links to data files of two images each, as the detector writes them."""
    (folder / "eiger").mkdir()
    master = folder / "eiger" / "take_master.h5"
    with h5py.File(master, "w") as file:
        group = file.create_group("entry/data")
        file["entry/instrument/detector/detectorSpecific/pixel_mask"] = np.zeros((4, 5), np.uint32)
        for number in range(1, files + 1):
            name = f"take_data_{number:06d}.h5"
            group[f"data_{number:06d}"] = h5py.ExternalLink(name, "/entry/data/data")
            with h5py.File(master.with_name(name), "w") as data:
                low = first + 2 * (number - 1)
                images = np.full((2, 4, 5), low, np.uint32) + np.arange(2, dtype=np.uint32)[:, None, None]
                data["entry/data/data"] = images
                data["entry/data/data"].attrs["image_nr_low"] = low
    return master
