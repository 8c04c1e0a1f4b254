"""The key file of encrypted streams: one current key, and earlier ones that still open what they sealed.

One key a line, `<id> <key>`, both in hexadecimal, the current key first; lines that begin with `#` are comments. The
id travels readable with every frame, so a key can be changed while frames that the old one sealed are under way:
first give everybody the file with the new key, then drop the old line.
"""

import hashlib
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from beamcast.core.errors import UsageError

KEY_BYTES = 32
KEY_ID_BYTES = 4


@dataclass(frozen=True, slots=True)
class Key:
    """One AES-256 key and the public id (4 bytes) that frames name it by. Its text never shows the key."""

    id: bytes
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.id) != KEY_ID_BYTES or len(self.secret) != KEY_BYTES:
            raise UsageError(f"a key has {KEY_BYTES} bytes and an id of {KEY_ID_BYTES}")

    def __reduce__(self) -> tuple[type[Self], tuple[bytes, bytes]]:
        raise TypeError("keys are not pickled: give the other process the key file")

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of a SHA-256 over the key; the key has 256 random bits, so nobody finds it by that."""
        return hashlib.sha256(b"beamcast key fingerprint" + self.secret).hexdigest()[:16]

    @classmethod
    def create(cls) -> Self:
        """A new random key."""
        return cls(secrets.token_bytes(KEY_ID_BYTES), secrets.token_bytes(KEY_BYTES))


class KeyRing:
    """The current key and the earlier ones by id."""

    __slots__ = ("_by_id", "current")

    def __init__(self, keys: Iterable[Key]) -> None:
        """The first of `keys` is current; UsageError for none at all, and for two keys with one id."""
        listed = list(keys)
        if not listed:
            raise UsageError("a key ring needs at least one key")
        self.current = listed[0]
        self._by_id: Mapping[bytes, Key] = {key.id: key for key in listed}
        if len(self._by_id) != len(listed):
            raise UsageError("two keys of the ring have the same id")

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(key.hex() for key in self._by_id)})"

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, key_id: bytes) -> Key | None:
        """The key with this id, None if the ring has none."""
        return self._by_id.get(key_id)

    def fingerprints(self) -> list[tuple[str, str]]:
        """(id, fingerprint) of each key, the current one first: equal for equal keys, of no use for anything else."""
        return [(key.id.hex(), key.fingerprint) for key in self._by_id.values()]

    @classmethod
    def create(cls) -> Self:
        """A ring with one new key."""
        return cls([Key.create()])

    def rotated(self, *, keep: int = 1) -> Self:
        """A ring with a new current key and the `keep` latest of the present ones."""
        return type(self)([Key.create(), *list(self._by_id.values())[:keep]])

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a key file; UsageError when there is none, others may read it, or it is not one."""
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise UsageError(f"can't read the key file: {error.strerror}", where=str(path)) from error
        with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
            # Asked of the open file: between a look at the path and its opening, another could take its place.
            status = os.fstat(descriptor)
            if status.st_mode & 0o077:
                raise UsageError(
                    f"the key file may be read by others (mode {status.st_mode & 0o777:03o})",
                    hint=f"chmod 600 '{path}'",
                    where=str(path),
                )
            lines = file.read().splitlines()
        return cls(_parse(lines, where=str(path)))

    def write(self, path: Path) -> None:
        """Write the ring into a new file that only its owner may read; FileExistsError if there is one."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(
                "# beamcast stream keys, the current one first. Whoever has this file reads the frames.\n"
            )
            file.writelines(f"{key.id.hex()} {key.secret.hex()}\n" for key in self._by_id.values())

    def replace(self, path: Path) -> None:
        """Write the ring over an existing key file, in one step: a reader sees the old or the new one."""
        part = path.with_name(path.name + ".new")
        self.write(part)
        part.replace(path)


def _parse(lines: list[str], *, where: str) -> list[Key]:
    keys = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            key_id, secret = map(bytes.fromhex, line.split())
            keys.append(Key(key_id, secret))
        except (ValueError, UsageError):
            # Without a cause: the text of a ValueError could hold a part of the line, and so of a key.
            raise UsageError(
                f"line {number} is not a key",
                hint=f"expected {2 * KEY_ID_BYTES} and {2 * KEY_BYTES} hexadecimal digits",
                where=where,
            ) from None
    if not keys:
        raise UsageError("the file holds no key", where=where)
    return keys
