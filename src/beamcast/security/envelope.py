"""The readable head of a sealed payload: who sealed it, with which key and number, and what is in it.

    magic 3 | version 1 | key id 4 | session salt 16 | counter 8 | sender length 1 | note length 2 | parts 2
    sender | note | size of each part 8

All numbers are little-endian and unsigned, sizes in bytes. Everything here may be read by anybody and changed by
nobody: the head is associated data of each piece that follows it. Nothing in it is believed before a piece has been
opened, except to find the key; sizes are compared with what is there before anything is allocated for them.
"""

import struct
from dataclasses import dataclass
from typing import Final

from beamcast.core.errors import DataError, UsageError
from beamcast.security.keys import KEY_ID_BYTES

VERSION: Final = 1
MAGIC: Final = b"BCS"
SALT_BYTES: Final = 16
TAG_BYTES: Final = 16
COUNTER_OFFSET: Final = 4 + KEY_ID_BYTES + SALT_BYTES
COUNTER: Final = struct.Struct("<Q")
# A piece is what AES-GCM seals at once and a thread works on. Of 256 KiB, starting costs a tenth; of 16 MiB, one
# frame would be one piece and a second core of no use. Part of the format: a change needs a new version.
PIECE_BYTES: Final = 1 << 20

_FIXED = struct.Struct(f"<3sB{KEY_ID_BYTES}s{SALT_BYTES}sQBHH")


class SealError(DataError):
    """A sealed payload that can't be opened; its subclasses say why. The frame failed, the stream may go on."""


class Malformed(SealError):
    """The data are not a sealed payload of this version, or their sizes do not agree."""


class UnknownKey(SealError):
    """The payload was sealed with a key that is not in the key file, or by a sender that is not accepted."""


class Tampered(SealError):
    """The payload or what it is bound to was changed, or was sealed with another key of the same id."""


class Replayed(SealError):
    """The payload was opened before, or is too old to tell."""


@dataclass(frozen=True, slots=True)
class Head:
    """A head as it was read. `size` is its own length, `parts` the plain sizes."""

    key_id: bytes
    salt: bytes
    counter: int
    sender: str
    note: bytes
    parts: tuple[int, ...]
    size: int


def pieces_of(part_bytes: int) -> int:
    """How many pieces a part is cut into: an empty one is a piece too, so that its head is authenticated."""
    return max(1, -(-part_bytes // PIECE_BYTES))


def cut(sizes: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(part, begin, end) of each piece of parts of these sizes, in order."""
    return [
        (part, number * PIECE_BYTES, min(size, (number + 1) * PIECE_BYTES))
        for part, size in enumerate(sizes)
        for number in range(pieces_of(size))
    ]


def sealed_bytes(head_bytes: int, parts: tuple[int, ...]) -> int:
    """The length of a sealed payload: head, parts, and a tag for each piece."""
    return head_bytes + sum(parts) + TAG_BYTES * sum(map(pieces_of, parts))


def write_head(*, key_id: bytes, salt: bytes, sender: str, note: bytes, parts: tuple[int, ...]) -> bytes:
    """A head with counter 0 (at COUNTER_OFFSET); UsageError when a field has no room for what is given."""
    name = sender.encode()
    if not parts or max(len(name) - 0xFF, len(note) - 0xFFFF, len(parts) - 0xFFFF) > 0:
        raise UsageError(
            "a sealed payload has 1 to 65535 parts, a sender of up to 255 and a note of up to 65535 bytes"
        )
    fixed = _FIXED.pack(MAGIC, VERSION, key_id, salt, 0, len(name), len(note), len(parts))
    return fixed + name + note + struct.pack(f"<{len(parts)}Q", *parts)


def read_head(sealed: memoryview) -> Head:
    """Read the head of `sealed` (bytes); Malformed unless all of it is there and the sizes agree."""
    if len(sealed) < _FIXED.size:
        raise Malformed(f"{len(sealed)} bytes are too few for a sealed payload")
    magic, version, key_id, salt, counter, sender_bytes, note_bytes, count = _FIXED.unpack_from(sealed)
    if magic != MAGIC:
        raise Malformed("the payload is not one that beamcast sealed")
    if version != VERSION:
        raise Malformed(
            f"the payload has version {version}, we open {VERSION}", hint="use one beamcast on both sides"
        )
    note_at = _FIXED.size + sender_bytes
    parts_at = note_at + note_bytes
    size = parts_at + 8 * count
    if not count or len(sealed) < size:
        raise Malformed("the head of the sealed payload is cut off")
    parts = struct.unpack_from(f"<{count}Q", sealed, parts_at)
    if sealed_bytes(size, parts) != len(sealed):
        raise Malformed(f"{sealed_bytes(size, parts)} bytes were sealed, {len(sealed)} came")
    try:
        sender = str(sealed[_FIXED.size : note_at], "utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("the sender's name is not text") from error
    note = bytes(sealed[note_at:parts_at])
    return Head(key_id, salt, counter, sender, note, parts, size)
