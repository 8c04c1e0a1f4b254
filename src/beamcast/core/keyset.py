"""Sets of frame keys on the wire and in small operations that pyroaring lacks.

The choice: Roaring's own portable format, behind a version byte and a CRC-32. Roaring's reader checks lengths
but not the order inside a container, so a damaged set could be read and break later; the checksum refuses
damage. It is no defence against malice: that is the task of the message around it, which is authenticated.
"""

import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from pyroaring import BitMap64

from beamcast.core.ids import ID_BITS, ID_MASK, run_ends

KEYSET_VERSION = 1
_HEADER_BYTES = 5  # version, then CRC-32 of the body, big-endian


def encode_keys(keys: Iterable[int] | BitMap64) -> bytes:
    """Serialize keys (unsigned 64-bit integers). About 2 bytes a key, much less for runs."""
    body: bytes = as_keys(keys).serialize()
    return bytes((KEYSET_VERSION,)) + zlib.crc32(body).to_bytes(4, "big") + body


def decode_keys(data: bytes) -> BitMap64:
    """Read what `encode_keys` wrote.

    Raises:
        ValueError: another version, a damaged or cut body.
    """
    if len(data) < _HEADER_BYTES or data[0] != KEYSET_VERSION:
        raise ValueError(f"no key set of version {KEYSET_VERSION} ({len(data)} bytes)")
    body = bytes(data[_HEADER_BYTES:])
    if zlib.crc32(body) != int.from_bytes(data[1:_HEADER_BYTES], "big"):
        raise ValueError(f"damaged key set: the checksum of {len(body)} bytes does not fit")
    try:
        keys = BitMap64.deserialize(body)
    except IndexError as error:  # an empty body
        raise ValueError("damaged key set: empty body") from error
    return keys


def as_keys(keys: Iterable[int] | BitMap64) -> BitMap64:
    """Return `keys` itself where it is a bitmap, else a new bitmap."""
    return keys if isinstance(keys, BitMap64) else BitMap64(keys)


def from_key(keys: BitMap64, first: int) -> BitMap64:
    """Return the keys that are not below `first`: `keys` itself where none is."""
    if first == 0 or not keys or keys.min() >= first:
        return keys
    kept = keys.copy()
    kept.remove_range(0, first)
    return kept


def count_from_key(keys: BitMap64, first: int) -> int:
    """Return how many keys are not below `first`, without a copy."""
    return len(keys) - (keys.rank(first - 1) if first else 0)


def union(parts: Iterable[BitMap64]) -> BitMap64:
    """Return a new bitmap with the keys of all parts."""
    return BitMap64().union(*parts)


# An int32 that has gone past its highest value goes on with its lowest, which a key holds modulo 2^48.
_PAST_INT32, _LOWEST_INT32 = 1 << 31, (1 << ID_BITS) - (1 << 31)


def count_gaps(came: BitMap64) -> int:
    """How many ids are missing between the first and the last of each epoch. Where all ids of an epoch are values of an
    int32, those that an int32 can't have are not missing."""
    missing = 0
    for first, last, count in _epochs(came):
        missing += last - first + 1 - count
        if _wraps(came, first, last):
            missing -= _LOWEST_INT32 - _PAST_INT32
    return missing


class Gap(NamedTuple):
    """Ids that are missing, as keys: the first and the last, and those that came before and after them."""

    first: int
    last: int
    before: int
    after: int


def gaps(came: BitMap64) -> Iterator[Gap]:
    """Each run of ids that `count_gaps` counts, in order."""
    starts, ends = run_ends(came)
    wrapped = {first >> ID_BITS for first, last, _ in _epochs(came) if _wraps(came, first, last)}
    for before, after in zip(ends, islice(starts, 1, None), strict=False):
        epoch = before >> ID_BITS
        if epoch != after >> ID_BITS:
            continue
        low, high = epoch << ID_BITS | _PAST_INT32, epoch << ID_BITS | _LOWEST_INT32
        parts = [(before + 1, after - 1)]
        if epoch in wrapped and before < low <= high <= after:
            parts = [(before + 1, low - 1), (high, after - 1)]
        yield from (Gap(first, last, before, after) for first, last in parts if first <= last)


def _epochs(came: BitMap64) -> Iterator[tuple[int, int, int]]:
    """First key, last key and number of keys of each epoch that has any."""
    if not came:
        return
    for epoch in range(came.min() >> ID_BITS, (came.max() >> ID_BITS) + 1):
        begin = came.rank((epoch << ID_BITS) - 1) if epoch else 0
        end = came.rank((epoch << ID_BITS) | ID_MASK)
        if end > begin:
            yield came[begin], came[end - 1], end - begin


def _wraps(came: BitMap64, first: int, last: int) -> bool:
    """Whether ids from `first` to `last`, of one epoch, are those of an int32 that has gone past its highest value."""
    low, high = (first & ~ID_MASK) | _PAST_INT32, (first & ~ID_MASK) | _LOWEST_INT32
    return first < low and high <= last and came.rank(high - 1) == came.rank(low - 1)
