"""Images as areaDetector compresses them: codec.name says how, the value holds bytes.

The choice: imagecodecs for Blosc, LZ4 and bitshuffle, Pillow for JPEG, Python for zlib. They are imported with the
first compressed image, so that a rank which sees none does not pay for them.

What a frame says about itself is not believed. Dimensions, element type and uncompressedSize must agree and stay
below `MAX_IMAGE_BYTES` before anything is allocated; a decoder writes into a buffer of exactly that size, and a payload
that gives less or more is refused. bslz4 and lz4hdf5 are framed here, block by block: the C library of bitshuffle takes
a block's length from the payload and reads beyond its end.

Formats (ADCore's NDPluginCodec; the HDF5 filters 32004 and 32008): "lz4" and "bslz4" are a bare block and bare blocks.
Some detectors send under these names what an HDF5 chunk holds, with a head of 12 bytes (size, block size; big-endian).
That is seen from the first four bytes, which are 0 for every image below 4 GiB and never are in a bare one.
"""

import io
import math
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pvaccess

from beamcast.core.errors import DataError, UsageError

Image = np.ndarray[Any, np.dtype[Any]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]

# The largest image that Blosc and LZ4 can hold is a little less; what claims more is a lie or a mistake.
MAX_IMAGE_BYTES = 2**31
# ScalarType of EPICS pvData: what areaDetector puts into codec.parameters.
DTYPE_OF_SCALAR: Mapping[int, np.dtype[Any]] = {
    1: np.dtype(np.int8),
    2: np.dtype(np.int16),
    3: np.dtype(np.int32),
    4: np.dtype(np.int64),
    5: np.dtype(np.uint8),
    6: np.dtype(np.uint16),
    7: np.dtype(np.uint32),
    8: np.dtype(np.uint64),
    9: np.dtype(np.float32),
    10: np.dtype(np.float64),
}
SCALAR_OF_DTYPE: Mapping[np.dtype[Any], int] = {dtype: number for number, dtype in DTYPE_OF_SCALAR.items()}
_BLOSC_HEAD = struct.Struct("<4B3I")
_HDF5_HEAD = struct.Struct(">QI")
_LENGTH = struct.Struct(">I")


def decode_image(pv: Any, *, codec: str, field: str, shape: tuple[int, ...]) -> Image:
    """The image of a compressed NTNDArray, new, of `shape` and the element type that its codec.parameters name.

    `field` is the selected field of the value. DataError when the codec is unknown, when what the frame says about
    its size does not agree, or when the payload does not decode to exactly that; UsageError when a library is missing.
    """
    decode = DECODERS.get(codec)
    if decode is None:
        raise _unknown(codec)
    if not shape or min(shape) <= 0:
        raise DataError(f"codec {codec!r}: the dimensions (rows first) are {shape}")
    dtype = _element_type(pv, codec)
    size_bytes = math.prod(shape) * dtype.itemsize
    _check_size(pv, codec, size_bytes)
    try:
        flat = decode(_payload(pv, field), size_bytes, dtype.itemsize)
    except ImportError as error:
        raise _missing(codec, error) from error
    # imagecodecs raises RuntimeError, Pillow OSError and SyntaxError for what is no JPEG.
    except (RuntimeError, ValueError, OSError, SyntaxError, struct.error, zlib.error) as error:
        raise DataError(
            f"the payload is not what codec {codec!r} makes of {size_bytes} bytes: {error}"
        ) from error
    return flat.view(dtype).reshape(shape)


def _unknown(codec: str) -> DataError:
    opens = "beamcast.processors.encryption:Open" if codec.startswith("beamcast.") else None
    return DataError(
        f"the image is encoded with codec {codec!r}",
        hint=f"{opens} opens it" if opens else f"decoded on receipt are {', '.join(DECODERS)}",
    )


def _missing(codec: str, error: ImportError) -> UsageError:
    return UsageError(f"codec {codec!r} needs a library: {error}", hint="pip install 'beamcast[files]'")


def _element_type(pv: Any, codec: str) -> np.dtype[Any]:
    try:
        number = pv["codec.parameters"][0].get("value")
    except (pvaccess.PvaException, LookupError, AttributeError, TypeError):
        number = None
    dtype = DTYPE_OF_SCALAR.get(number) if isinstance(number, int) else None
    if dtype is None and codec == "jpeg":
        return np.dtype(np.uint8)
    if dtype is None:
        raise DataError(
            f"codec {codec!r}: codec.parameters does not name the element type, but says {number!r}"
        )
    if codec == "jpeg" and dtype.itemsize != 1:
        raise DataError(f"codec 'jpeg' holds 8-bit pixels, not {dtype}")
    return dtype


def _check_size(pv: Any, codec: str, size_bytes: int) -> None:
    stated = pv.getLong("uncompressedSize")
    if stated != size_bytes or size_bytes <= 0:
        raise DataError(
            f"codec {codec!r}: uncompressedSize is {stated} bytes, dimensions and type make {size_bytes}"
        )
    if size_bytes >= MAX_IMAGE_BYTES:
        raise DataError(f"codec {codec!r}: an image of {size_bytes} bytes is refused, 2 GiB are too many")


def _payload(pv: Any, field: str) -> Bytes:
    value = pv.getUnion("value").getScalarArray(field)
    if not isinstance(value, np.ndarray):
        raise ValueError("it is not an array of bytes")
    payload: Bytes = value.view(np.uint8)
    stated = pv.getLong("compressedSize")
    if stated > payload.nbytes:
        raise ValueError(f"compressedSize is {stated}, but {payload.nbytes} bytes have come")
    # Some servers send the whole buffer into which they compressed.
    return payload[:stated] if stated > 0 else payload


def _all(size_bytes: int, decoded: Any) -> Bytes:
    flat: Bytes = np.frombuffer(decoded, np.uint8)
    if flat.nbytes != size_bytes:
        raise ValueError(f"it holds {flat.nbytes} bytes")
    return flat


def _blosc(payload: Bytes, size_bytes: int, itemsize: int) -> Bytes:
    from imagecodecs import blosc_decode

    head = _BLOSC_HEAD.unpack_from(payload.data)
    if head[4] != size_bytes or head[6] > payload.nbytes:
        raise ValueError(f"its head says {head[4]} bytes in {head[6]}, it has {payload.nbytes}")
    return _all(size_bytes, blosc_decode(payload, numthreads=1, out=np.empty(size_bytes, np.uint8)))


def _lz4(payload: Bytes, size_bytes: int, itemsize: int) -> Bytes:
    from imagecodecs import lz4_decode

    if _has_hdf5_head(payload):
        return _lz4_hdf5(payload, size_bytes, itemsize)
    return _all(size_bytes, lz4_decode(payload, out=np.empty(size_bytes, np.uint8)))


def _has_hdf5_head(payload: Bytes) -> bool:
    return payload.nbytes >= _HDF5_HEAD.size and not payload[:4].any()


def _hdf5_head(payload: Bytes, size_bytes: int) -> int:
    """The block size in bytes."""
    total, block_bytes = _HDF5_HEAD.unpack_from(payload.data)
    if total != size_bytes:
        raise ValueError(f"its head says {total} bytes")
    return int(block_bytes)


def _lz4_hdf5(payload: Bytes, size_bytes: int, itemsize: int) -> Bytes:
    block_bytes = min(_hdf5_head(payload, size_bytes), size_bytes)
    if block_bytes <= 0:
        raise ValueError("its head says blocks of 0 bytes")
    sizes = [min(block_bytes, size_bytes - at) for at in range(0, size_bytes, block_bytes)]
    return _blocks(payload, _HDF5_HEAD.size, sizes, size_bytes, bare_when_full=True)[0]


def _bslz4(payload: Bytes, size_bytes: int, itemsize: int) -> Bytes:
    from imagecodecs import bitshuffle_decode

    at, block = 0, default_block(itemsize)
    # Fewer than 8 elements are not compressed at all, and may be 0.
    bare = size_bytes < 8 * itemsize and payload.nbytes == size_bytes
    if _has_hdf5_head(payload) and not bare:
        block, at = _hdf5_head(payload, size_bytes) // itemsize or block, _HDF5_HEAD.size
    if block <= 0 or block % 8:
        raise ValueError(f"its head says blocks of {block} elements, not a multiple of 8")
    sizes, left_bytes = bitshuffle_blocks(size_bytes, itemsize, block)
    flat, at = _blocks(payload, at, sizes, size_bytes)
    if payload.nbytes - at < left_bytes:
        raise ValueError("it ends too early")
    if left_bytes:
        flat[-left_bytes:] = payload[at : at + left_bytes]
    # imagecodecs ignores `itemsize` where it is given an array.
    return _all(size_bytes, bitshuffle_decode(flat.view(f"u{itemsize}"), blocksize=block))


def default_block(itemsize: int) -> int:
    """Elements in a block of bitshuffle: 8 KiB of them, a multiple of 8, at least 128 (bitshuffle's own rule)."""
    return max(8192 // itemsize // 8 * 8, 128)


def bitshuffle_blocks(size_bytes: int, itemsize: int, block: int) -> tuple[list[int], int]:
    """Bytes of each block, and of the last elements (fewer than 8), which bitshuffle leaves as they are."""
    whole, rest = divmod(size_bytes // itemsize, block)
    left = rest % 8
    tail = [(rest - left) * itemsize] if rest > left else []
    return [block * itemsize] * whole + tail, left * itemsize


def _blocks(
    payload: Bytes, at: int, sizes: list[int], size_bytes: int, *, bare_when_full: bool = False
) -> tuple[Bytes, int]:
    """LZ4 blocks, each after its length, into one new buffer; returns that and where the next byte is.

    `bare_when_full`: a block as long as its content is not compressed. LZ4's HDF5 filter writes so, bitshuffle does
    not: there LZ4 may happen to need as many bytes as it was given.
    """
    from imagecodecs import lz4_decode

    flat, done, data = np.empty(size_bytes, np.uint8), 0, payload.data
    for size in sizes:
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if not 0 < length <= payload.nbytes - at:
            raise ValueError(f"a block says {length} bytes, {payload.nbytes - at} are left")
        part = flat[done : done + size]
        if bare_when_full and length == size:
            part[:] = payload[at : at + length]
        elif len(lz4_decode(data[at : at + length], out=part)) != size:
            raise ValueError(f"a block does not hold {size} bytes")
        at, done = at + length, done + size
    return flat, at


def _zlib(payload: Bytes, size_bytes: int, itemsize: int) -> Bytes:
    inflating = zlib.decompressobj()
    return _all(size_bytes, inflating.decompress(payload.data, size_bytes + 1))


def _jpeg(payload: Bytes, size_bytes: int, itemsize: int) -> Bytes:
    from PIL import Image as Pillow

    with Pillow.open(io.BytesIO(payload.data), formats=["JPEG"]) as picture:
        # Known from its head: refused before a pixel is decoded.
        held = picture.width * picture.height * len(picture.getbands())
        if held != size_bytes:
            raise ValueError(f"it holds {held} bytes")
        flat: Bytes = np.array(picture, np.uint8).reshape(-1)
    return flat


Decoder = Callable[[Bytes, int, int], Bytes]
# Each takes the payload, the size of the image in bytes and that of an element, and raises for anything else.
DECODERS: dict[str, Decoder] = {
    "blosc": _blosc,
    "lz4": _lz4,
    "bslz4": _bslz4,
    "lz4hdf5": _lz4_hdf5,
    "zlib": _zlib,
    "jpeg": _jpeg,
}
