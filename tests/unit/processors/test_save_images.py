"""`SaveImages`: what stands in the folder, read by others' libraries."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from file_fakes import context, frame, image_of
from PIL import Image

from beamcast.core.errors import DataError, UsageError, WorldError
from beamcast.core.ids import FrameKey
from beamcast.pools.frame import Frame
from beamcast.pools.params import checked_arguments
from beamcast.processors.codecs import Compress
from beamcast.processors.images import SaveImages
from beamcast.pva.ndarray import ImageReader


def started(base: Path, **options: Any) -> SaveImages:
    processor = SaveImages(folder="images", **options)
    processor.start(context(base))
    return processor


def read(path: Path) -> Any:
    if path.suffix == ".npy":
        return np.load(path)
    return tifffile.imread(path) if path.suffix == ".tif" else np.asarray(Image.open(path))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("kind", ["tiff", "npy"])
def test_every_number_is_kept(kind: Any, dtype: Any, tmp_path: Path) -> None:
    image = image_of(1, dtype=dtype)
    given = frame(7, image)
    assert started(tmp_path, format=kind).process(given) is given.pv
    [path] = (tmp_path / "images").iterdir()
    assert path.stem == "r1-save-0000000007"
    assert read(path).dtype == dtype
    np.testing.assert_array_equal(read(path), image)


@pytest.mark.parametrize(("dtype", "shape"), [(np.uint8, (6, 8)), (np.uint16, (6, 8)), (np.uint8, (6, 8, 3))])
def test_png_keeps_8_and_16_bits_and_colour(dtype: Any, shape: tuple[int, ...], tmp_path: Path) -> None:
    image = image_of(1, shape, dtype) + 200
    started(tmp_path, format="png").process(frame(1, image.astype(dtype)))
    np.testing.assert_array_equal(read(tmp_path / "images" / "r1-save-0000000001.png"), image.astype(dtype))


def test_jpeg_can_be_read(tmp_path: Path) -> None:
    started(tmp_path, format="jpeg").process(frame(1, np.full((16, 24), 90, np.uint8)))
    assert abs(read(tmp_path / "images" / "r1-save-0000000001.jpg").astype(int) - 90).max() < 3


@pytest.mark.parametrize(
    ("kind", "dtype", "shape"),
    [
        ("png", np.int16, (4, 4)),
        ("png", np.float32, (4, 4)),
        ("jpeg", np.uint16, (4, 4)),
        ("png", np.uint8, (2, 4, 4)),
    ],
)
def test_what_a_format_can_not_hold_fails_and_leaves_nothing(
    kind: Any, dtype: Any, shape: tuple[int, ...], tmp_path: Path
) -> None:
    processor = started(tmp_path, format=kind)
    with pytest.raises(DataError, match=f"{kind} does not hold an image"):
        processor.process(frame(1, image_of(1, shape, dtype)))
    assert list((tmp_path / "images").iterdir()) == []
    assert processor.stats()["saved"] == 0


def test_a_frame_that_is_sent_again_replaces_itself(tmp_path: Path) -> None:
    processor = started(tmp_path)
    processor.process(frame(1))
    processor.process(frame(1))
    processor.process(frame(1, epoch=2))
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert names == ["r1-save-0000000001.tif", "r1-save-e2-0000000001.tif"]


def test_the_place_is_published_on_request(tmp_path: Path) -> None:
    processor = started(tmp_path, publish="place", prefix="run 7 'x' ")
    assert processor.output == {"file": str}
    path = Path(processor.process(frame(4))["file"])
    assert path.name == "run 7 'x' 0000000004.tif"
    assert processor.stats() == {"saved": 1, "savedBytes": path.stat().st_size}
    processor.reset_stats()
    assert processor.stats() == {"saved": 0, "savedBytes": 0}


def test_a_compressed_frame_is_saved_as_an_image_and_passed_on_compressed(tmp_path: Path) -> None:
    image = image_of(5)
    packed = Compress().process(frame(5, image))
    passed = started(tmp_path).process(Frame(packed, FrameKey(5), ImageReader()))
    assert passed["codec.name"] == "blosc"
    np.testing.assert_array_equal(read(tmp_path / "images" / "r1-save-0000000005.tif"), image)


def test_a_folder_that_can_not_be_made_or_went_away_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("in the way")
    with pytest.raises(UsageError, match="images can't be made"):
        started(tmp_path)
    (tmp_path / "images").unlink()
    processor = started(tmp_path)
    (tmp_path / "images").rmdir()
    with pytest.raises(WorldError, match=r"r1-save-0000000001\.tif can't be written"):
        processor.process(frame(1))


def test_parameters_are_checked() -> None:
    with pytest.raises(UsageError, match="format"):
        checked_arguments(SaveImages, {"folder": "x", "format": "gif"}, what="SaveImages")
    with pytest.raises(UsageError, match="slash"):
        SaveImages(folder="x", prefix="a/b")
