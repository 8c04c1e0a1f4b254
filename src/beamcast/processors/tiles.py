"""Split images into tiles and stitch tiles into images.

The choice: tiles lie on a grid of rows and columns and are numbered along the rows, from 0. Sizes differ by at most one
pixel, so any image fits any grid that is not finer than its pixels, and nothing is cut off at the edges. A stitched
image is laid together from whatever the tiles have become (a tile may have been binned or filtered), as long as tiles
in one row of the grid agree in height and those in one column agree in width.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from beamcast.core.errors import DataError, UsageError

Image = NDArray[Any]
Count = Annotated[int, msgspec.Meta(ge=1)]


def tile_of(image: Image, number: int, *, rows: int, columns: int) -> Image:
    """The tile of that number as a view of ``image``, whose last two axes are rows and columns of pixels.

    DataError when the image has fewer pixels than the grid has cells, ValueError for a number outside the grid.
    """
    if not 0 <= number < rows * columns:
        raise ValueError(f"tile {number} is outside a grid of {rows} x {columns}")
    *_, height, width = image.shape
    if height < rows or width < columns:
        raise DataError(f"an image of {height} x {width} pixels has no {rows} x {columns} tiles")
    row, column = divmod(number, columns)
    down = slice(row * height // rows, (row + 1) * height // rows)
    across = slice(column * width // columns, (column + 1) * width // columns)
    return image[..., down, across]


def stitched(tiles: Sequence[Image], *, rows: int, columns: int) -> Image:
    """A new image from tiles in the order of their numbers.

    DataError when there are not ``rows * columns`` of them, their dtypes differ, or their sizes do not fit together.
    """
    if len(tiles) != rows * columns:
        raise DataError(f"{len(tiles)} tiles came for a grid of {rows} x {columns}")
    if len({tile.dtype for tile in tiles}) != 1:
        raise DataError(
            f"tiles of different dtypes: {', '.join(sorted({str(tile.dtype) for tile in tiles}))}"
        )
    bands = [tiles[row * columns : (row + 1) * columns] for row in range(rows)]
    heights = [band[0].shape[-2] for band in bands]
    widths = [tile.shape[-1] for tile in bands[0]]
    planes = tiles[0].shape[:-2]
    made: Image = np.empty((*planes, sum(heights), sum(widths)), tiles[0].dtype)
    down = np.cumsum([0, *heights])
    across = np.cumsum([0, *widths])
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        if tile.shape != (*planes, heights[row], widths[column]):
            raise DataError(f"tile {number} has shape {tile.shape} and does not fit to its neighbours")
        made[..., down[row] : down[row + 1], across[column] : across[column + 1]] = tile
    return made


class OwnTile:
    """Keeps this rank's tile of each image. For a pool of one rank for each tile, with policy ``all`` or ``sets``."""

    output = np.ndarray

    def __init__(self, *, rows: Count, columns: Count) -> None:
        self._rows = rows
        self._columns = columns
        self._number = 0

    def start(self, context: Any) -> None:
        """Take the tile from the place; UsageError when the ranks do not come out even."""
        tiles, place = self._rows * self._columns, context.place
        if place.size % tiles:
            raise UsageError(
                f"{place.size} ranks can't each take one of {tiles} tiles",
                hint="set ranks to their number, or a multiple with as many sets",
            )
        self._number = place.rank % tiles

    def process(self, frame: Any) -> Image:
        """The tile."""
        return tile_of(frame.image, self._number, rows=self._rows, columns=self._columns)


class Split:
    """All tiles of each image, each on an output of its own: only tiles travel on. The pool behind it has
    ``input_branches``."""

    output = np.ndarray

    def __init__(self, *, rows: Count, columns: Count) -> None:
        self._rows = rows
        self._columns = columns
        self.outputs = rows * columns

    def process(self, frame: Any) -> Image | list[Image]:
        """The tiles, in the order of their numbers."""
        image, rows, columns = frame.image, self._rows, self._columns
        tiles = [tile_of(image, number, rows=rows, columns=columns) for number in range(self.outputs)]
        return tiles if len(tiles) > 1 else tiles[0]


class Stitch:
    """One image from the tiles that a collector has gathered (``gather``)."""

    output = np.ndarray

    def __init__(self, *, rows: Count, columns: Count) -> None:
        self._rows = rows
        self._columns = columns

    def process(self, frame: Any) -> Image:
        """The image."""
        return stitched([part.image for part in frame.parts], rows=self._rows, columns=self._columns)
