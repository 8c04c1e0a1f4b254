"""Tiles: nothing is lost at the edges, nothing comes back at another place."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamcast.core.errors import DataError, UsageError
from beamcast.core.ids import FrameKey
from beamcast.core.place import spread
from beamcast.pools.context import Context
from beamcast.pools.frame import Frame, GatheredFrame
from beamcast.processors.tiles import OwnTile, Split, Stitch, stitched, tile_of
from beamcast.pva.ndarray import ImageReader, make_ndarray


def pv(image: Any) -> Any:
    return make_ndarray(image, frame_id=5, timestamp_s=12.5)


def frame(image: Any) -> Frame:
    return Frame(pv(image), FrameKey(5), ImageReader())


grids = st.tuples(st.integers(1, 5), st.integers(1, 5))


@given(grids, st.integers(0, 30), st.integers(0, 30), st.booleans())
def test_tiles_of_any_grid_make_the_same_image(
    grid: tuple[int, int], more_rows: int, more_columns: int, planes: bool
) -> None:
    rows, columns = grid
    shape = ((3,) if planes else ()) + (rows + more_rows, columns + more_columns)
    image = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)
    tiles = [tile_of(image, number, rows=rows, columns=columns) for number in range(rows * columns)]
    assert np.array_equal(stitched(tiles, rows=rows, columns=columns), image)
    sizes = {tile.shape[-2] for tile in tiles}
    assert max(sizes) - min(sizes) <= 1


def test_tiles_that_were_binned_still_fit() -> None:
    image = np.arange(8 * 12).reshape(8, 12)
    tiles = [tile_of(image, number, rows=2, columns=3)[::2, ::2] for number in range(6)]
    assert np.array_equal(stitched(tiles, rows=2, columns=3), image[::2, ::2])


@pytest.mark.parametrize(
    ("tiles", "message"),
    [
        ([np.zeros((2, 2))] * 3, "3 tiles came for a grid of 2 x 2"),
        ([np.zeros((2, 2)), np.zeros((2, 3)), np.zeros((2, 2)), np.zeros((2, 2))], "tile 3 has shape"),
        ([np.zeros((2, 2)), np.zeros((3, 2)), np.zeros((2, 2)), np.zeros((2, 2))], "tile 1 has shape"),
        ([np.zeros((2, 2))] * 3 + [np.zeros((2, 2), "i2")], "different dtypes: float64, int16"),
    ],
)
def test_tiles_that_do_not_fit_are_refused(tiles: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        stitched(tiles, rows=2, columns=2)


def test_an_image_with_fewer_pixels_than_cells_has_no_tiles() -> None:
    with pytest.raises(DataError, match="1 x 9 pixels has no 2 x 2 tiles"):
        tile_of(np.zeros((1, 9)), 0, rows=2, columns=2)
    with pytest.raises(ValueError, match="tile 4 is outside a grid of 2 x 2"):
        tile_of(np.zeros((9, 9)), 4, rows=2, columns=2)


@pytest.mark.parametrize("ranks", [4, 8])
def test_ranks_take_the_tiles_in_turn(ranks: int) -> None:
    image = np.arange(35, dtype=np.int16).reshape(5, 7)
    tiles = []
    for place in spread(ranks, ["a", "b"]):
        one = OwnTile(rows=2, columns=2)
        one.start(Context(run="r", pool="p", place=place, base=Path()))
        tiles.append(one.process(frame(image)))
    for first in range(0, ranks, 4):
        parts = [pv(np.ascontiguousarray(tile)) for tile in tiles[first : first + 4]]
        made = Stitch(rows=2, columns=2).process(GatheredFrame(parts, FrameKey(5), ImageReader()))
        assert np.array_equal(made, image)


def test_ranks_that_do_not_come_out_even_are_refused() -> None:
    [place] = spread(1, ["a"])
    with pytest.raises(UsageError, match="1 ranks can't each take one of 4 tiles"):
        OwnTile(rows=2, columns=2).start(Context(run="r", pool="p", place=place, base=Path()))


def test_split_has_an_output_for_each_tile() -> None:
    image = np.arange(35, dtype=np.int16).reshape(5, 7)
    split = Split(rows=1, columns=3)
    tiles = split.process(frame(image))
    assert isinstance(tiles, list)
    assert split.outputs == len(tiles) == 3
    assert np.array_equal(np.hstack(tiles), image)
    assert np.array_equal(Split(rows=1, columns=1).process(frame(image)), image)


def test_a_gathered_frame_is_its_first_part_and_a_plain_frame_its_only_one() -> None:
    plain = frame(np.ones((2, 2)))
    assert plain.parts == (plain,)
    parts = [pv(np.full((2, 2), value)) for value in (1.0, 2.0)]
    both = GatheredFrame(parts, FrameKey(5), ImageReader())
    assert both.pv is parts[0]
    assert [part.image[0, 0] for part in both.parts] == [1.0, 2.0]
    assert (both.id, both.timestamp) == (5, 12.5)
