"""Frames and a place in a run for the processors that save."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from beamcast.core.ids import FrameKey
from beamcast.core.place import Place
from beamcast.pools.context import Context
from beamcast.pools.frame import NO_METADATA, Frame
from beamcast.pva.ndarray import ImageReader, make_ndarray

SHAPE = (6, 8)


def context(base: Path, *, rank: int = 3) -> Context:
    place = Place(rank=rank, size=8, node="n", node_index=0, nodes=1, local_rank=rank, local_size=8)
    return Context(run="r1", pool="save", place=place, base=base)


def image_of(number: int, shape: tuple[int, ...] = SHAPE, dtype: Any = np.uint16) -> Any:
    return np.random.default_rng(number).integers(0, 100, shape).astype(dtype)


def frame(
    number: int, image: Any = None, metadata: Mapping[str, Any] = NO_METADATA, *, epoch: int = 0
) -> Frame:
    pv = make_ndarray(
        image_of(number) if image is None else image, frame_id=number, timestamp_s=1000.5 + number
    )
    return Frame(pv, FrameKey((epoch << 48) | number), ImageReader(), metadata)


def frames(first: int, count: int) -> list[Frame]:
    return [frame(number) for number in range(first, first + count)]
