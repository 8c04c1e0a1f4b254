"""Compressing the images of NTNDArrays, in the formats that `beamcast.pva.codecs` reads and areaDetector writes."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pvaccess

from beamcast.core.errors import DataError, UsageError
from beamcast.pva.codecs import (
    MAX_IMAGE_BYTES,
    SCALAR_OF_DTYPE,
    Bytes,
    Image,
    bitshuffle_blocks,
    default_block,
)

Codec = Literal["blosc", "lz4", "bslz4", "zlib", "jpeg"]
Compressor = Literal["blosclz", "lz4", "lz4hc", "zlib", "zstd"]
Shuffle = Literal["none", "byte", "bit"]
Encoder = Callable[[Image], bytes]

_SHUFFLES = ("none", "byte", "bit")
_DEFAULT_LEVEL = 5
_DEFAULT_QUALITY = 90


def make_encoder(codec: Codec, *, level: int | None, compressor: Compressor, shuffle: Shuffle) -> Encoder:
    """What compresses an image, of any shape and contiguous, to a payload.

    `level`: Blosc and zlib 0 to 9 (5 where None), JPEG quality 1 to 100 (90 where None); LZ4 has none. `compressor` and
    `shuffle` are of Blosc. UsageError for a level out of range and when a library is missing; the encoder raises
    DataError for an image that the codec can't hold.
    """
    lowest, highest = (1, 100) if codec == "jpeg" else (0, 9)
    if level is not None and (codec in ("lz4", "bslz4") or not lowest <= level <= highest):
        wanted = "no level" if codec in ("lz4", "bslz4") else f"a level from {lowest} to {highest}"
        raise UsageError(f"codec {codec!r} takes {wanted}, not {level}")
    try:
        if codec == "blosc":
            return _blosc(_DEFAULT_LEVEL if level is None else level, compressor, shuffle)
        if codec == "zlib":
            return lambda image: zlib.compress(_bytes(image).data, _DEFAULT_LEVEL if level is None else level)
        if codec == "jpeg":
            return _jpeg(_DEFAULT_QUALITY if level is None else level)
        return _lz4() if codec == "lz4" else _bslz4()
    except ImportError as error:
        raise UsageError(
            f"codec {codec!r} needs a library: {error}", hint="pip install 'beamcast[files]'"
        ) from error


def encode(encoder: Encoder, image: Image, *, codec: str) -> Bytes:
    """The payload of `image`; DataError when the codec can't hold it."""
    if not 0 < image.nbytes < MAX_IMAGE_BYTES:
        raise DataError(f"codec {codec!r} does not hold an image of {image.nbytes} bytes")
    try:
        return np.frombuffer(encoder(np.ascontiguousarray(image)), np.uint8)
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(
            f"codec {codec!r} refuses an image of {image.shape} {image.dtype}: {error}"
        ) from error


def set_compressed(pv: Any, payload: Bytes, *, codec: str, image: Image) -> None:
    """Put the payload of `image` into `pv`, which keeps its dimensions, id and times."""
    pv.setUnion("value", {"ubyteValue": payload})
    pv["codec"] = pvaccess.PvCodec(codec, pvaccess.PvInt(SCALAR_OF_DTYPE[image.dtype]))
    pv.setLong("compressedSize", payload.nbytes)
    pv.setLong("uncompressedSize", image.nbytes)


def set_plain(pv: Any) -> None:
    """Say that the image of `pv` is not compressed."""
    pv["codec"] = pvaccess.PvCodec("", pvaccess.PvInt(0))


def _bytes(image: Image) -> Bytes:
    flat: Bytes = image.reshape(-1).view(np.uint8)
    return flat


def _blosc(level: int, compressor: Compressor, shuffle: Shuffle) -> Encoder:
    from imagecodecs import blosc_encode

    number = _SHUFFLES.index(shuffle)

    def encoder(image: Image) -> bytes:
        # imagecodecs takes the element size from the array. One thread: the ranks of a node share its cores already.
        encoded: bytes = blosc_encode(
            image.reshape(-1), level, compressor=compressor, shuffle=number, numthreads=1
        )
        return encoded

    return encoder


def _lz4() -> Encoder:
    from imagecodecs import lz4_encode

    return lambda image: lz4_encode(_bytes(image))


def _bslz4() -> Encoder:
    from imagecodecs import bitshuffle_encode, lz4_encode

    def encoder(image: Image) -> bytes:
        itemsize = image.itemsize
        block = default_block(itemsize)
        # imagecodecs ignores `itemsize` where it is given an array.
        elements = image.reshape(-1).view(f"u{itemsize}")
        shuffled = memoryview(bitshuffle_encode(elements, blocksize=block)).cast("B")
        sizes, left_bytes = bitshuffle_blocks(image.nbytes, itemsize, block)
        parts, at = [], 0
        for size in sizes:
            packed = lz4_encode(shuffled[at : at + size])
            parts += [struct.pack(">I", len(packed)), packed]
            at += size
        return b"".join([*parts, shuffled[at : at + left_bytes]])

    return encoder


def _jpeg(quality: int) -> Encoder:
    from PIL import Image as Pillow

    def encoder(image: Image) -> bytes:
        grey, colour = image.ndim == 2, image.ndim == 3 and image.shape[2] == 3
        if image.dtype != np.uint8 or not (grey or colour):
            raise ValueError("JPEG holds 8-bit images of (rows, columns) or (rows, columns, 3)")
        file = io.BytesIO()
        Pillow.fromarray(image).save(file, "JPEG", quality=quality)
        return file.getvalue()

    return encoder
