"""Sealing to a site: who holds the site's private key can read it, and nobody on the way.

X25519 with a new key for each message, HKDF-SHA256 over the shared secret and both public keys, AES-256-GCM. A key is
used for one message, so its nonce may be constant. The sender is not proved: what is sealed here brings a run's secret
to ranks, and ranks that are given a stranger's secret can join the stranger's run only.
"""

import os
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from beamcast.core.errors import DataError, UsageError

VERSION = b"\x01"
KEY_BYTES = 32
_NONCE = bytes(12)
_INFO = b"beamcast site v1\0"


class SiteKey:
    """The private key of a site. Its text never shows it."""

    __slots__ = ("_key",)

    def __init__(self, key: X25519PrivateKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "SiteKey(…)"

    @classmethod
    def create(cls) -> Self:
        """A new random key."""
        return cls(X25519PrivateKey.generate())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a key file; UsageError when there is none, others may read it, or it holds something else."""
        try:
            mode, text = path.stat().st_mode & 0o777, path.read_text(encoding="utf-8").strip()
        except OSError as error:
            hint = f"make one with `beamcast site-key --file '{path}'`"
            raise UsageError(f"the site's key {path} can't be read: {error.strerror}", hint=hint) from error
        if mode & 0o077:
            raise UsageError(f"{path} may be read by others (mode {mode:03o})", hint=f"chmod 600 '{path}'")
        try:
            return cls(X25519PrivateKey.from_private_bytes(bytes.fromhex(text)))
        except ValueError as error:
            raise UsageError(f"{path} is no site key: it has 64 hexadecimal digits") from error

    def write(self, path: Path) -> None:
        """Write the key into a new file that only its owner may read; FileExistsError."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(self._key.private_bytes_raw().hex() + "\n")

    @property
    def public(self) -> str:
        """The public key, in hexadecimal."""
        return self._key.public_key().public_bytes_raw().hex()

    def unseal(self, sealed: bytes) -> bytes:
        """Open what was sealed to this key; DataError when it was not, or is damaged."""
        if sealed[:1] != VERSION or len(sealed) < 1 + KEY_BYTES:
            raise DataError("this is nothing that was sealed to a site, or of another version")
        theirs, body = sealed[1 : 1 + KEY_BYTES], sealed[1 + KEY_BYTES :]
        try:
            shared = self._key.exchange(X25519PublicKey.from_public_bytes(theirs))
            return _cipher(shared, theirs, bytes.fromhex(self.public)).decrypt(_NONCE, body, VERSION)
        except (InvalidTag, ValueError):
            raise DataError(
                "this was not sealed to this site's key, or is damaged",
                hint="is globus.public_key in the site file the one that `beamcast site-key` prints here?",
            ) from None


def seal_to(public: str, data: bytes) -> bytes:
    """Seal `data` to a site's public key (hexadecimal); UsageError for what is no key."""
    try:
        theirs = X25519PublicKey.from_public_bytes(bytes.fromhex(public))
        ours = X25519PrivateKey.generate()
        shared = ours.exchange(theirs)
    except ValueError as error:
        raise UsageError("the site's public key is no X25519 key: it has 64 hexadecimal digits") from error
    sender = ours.public_key().public_bytes_raw()
    return VERSION + sender + _cipher(shared, sender, bytes.fromhex(public)).encrypt(_NONCE, data, VERSION)


def _cipher(shared: bytes, sender: bytes, receiver: bytes) -> AESGCM:
    kdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_INFO + sender + receiver)
    return AESGCM(kdf.derive(shared))
