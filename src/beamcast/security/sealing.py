"""Sealing payloads with AES-256-GCM: secret, and good only as they were sealed. `opening` has the other half.

Each sender's session has a key of its own: HKDF-SHA256 of the ring's key over a random salt and the sender's name. So
nonces are plain counters: two ranks, or one before and after a restart, never share a key, and a counter never
repeats under one. A nonce is the piece's number (4 bytes) and the frame's counter (8 bytes). Associated data of each
piece are the head and the caller's `context`, the readable fields that belong to the payload.

Who holds the key file can seal in any sender's name: the name tells members apart, it does not prove which one it
was.

The buffers are kept from frame to frame: with 16 MiB frames, fresh memory would cost as much as the cipher.
"""

import os
import secrets
import struct
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from beamcast.security.envelope import (
    COUNTER,
    COUNTER_OFFSET,
    SALT_BYTES,
    TAG_BYTES,
    cut,
    sealed_bytes,
    write_head,
)
from beamcast.security.keys import KEY_BYTES, Key, KeyRing
from beamcast.security.pieces import Job, Pieces

Bytes = NDArray[np.uint8]

NONCE = struct.Struct("<IQ")
_pack_nonce, _pack_counter_into = NONCE.pack, COUNTER.pack_into
_INFO = b"beamcast stream v1\0"
# GCM stays far from its limits: an attacker's advantage after 2^48 bytes under one key is below 2^-38.
_MAX_SESSION_BYTES = 1 << 48


def session_key(key: Key, *, salt: bytes, sender: str) -> AESGCM:
    """The cipher of one sender's session."""
    kdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=_INFO + sender.encode())
    return AESGCM(kdf.derive(key.secret))


class Sealer:
    """Seals the payloads of one sender, in one thread."""

    def __init__(self, keys: KeyRing, *, sender: str, threads: int | None = None) -> None:
        """`sender`: a name of up to 255 bytes. `threads`: for frames of several MiB, by default one per core."""
        self._key = keys.current
        self._sender = sender
        self._pieces = Pieces(threads)
        self._store: Bytes = np.empty(0, np.uint8)
        self._new_session()
        _LIVE.add(self)

    def __repr__(self) -> str:
        return f"Sealer(sender={self._sender!r}, key={self._key.id.hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Sealer is not copied or pickled: two of them would use the same nonces")

    def _new_session(self) -> None:
        self._salt = secrets.token_bytes(SALT_BYTES)
        self._encrypt: Callable[..., Any] = session_key(
            self._key, salt=self._salt, sender=self._sender
        ).encrypt_into
        self._counter = 0
        self._left_bytes = _MAX_SESSION_BYTES
        self._note = b""
        self._sizes: tuple[int, ...] | None = None

    def seal(
        self,
        parts: Sequence[Bytes],
        *,
        note: bytes = b"",
        context: bytes = b"",
        into: Callable[[int], Bytes] | None = None,
    ) -> Bytes:
        """Seal the `parts` (contiguous arrays of uint8, read only) into one array of uint8.

        `note` travels readable in the head, `context` does not travel; neither can be changed unnoticed. The result
        is valid until the next call, or, where `into` is given, is what it makes for that many bytes. UsageError when
        head fields are too long, see `write_head`.
        """
        sizes = (parts[0].nbytes,) if len(parts) == 1 else tuple([part.nbytes for part in parts])
        if sizes != self._sizes or note != self._note:
            self._lay_out(note, sizes)
        # Counted before it is used: a call that fails halfway must not leave its nonces to the next.
        counter = self._counter
        self._counter = counter + 1
        head = self._head
        _pack_counter_into(head, COUNTER_OFFSET, counter)
        associated = b"".join((head, context))
        sealed, outs = self._sealed, self._outs
        if into is not None:
            sealed = into(len(sealed))
            sealed[: len(head)] = np.frombuffer(head, np.uint8)
            outs = self._outs_in(sealed)
        if len(outs) == 1:
            self._encrypt(_pack_nonce(0, counter), parts[0], associated, outs[0])
        else:
            self._pieces.run(self._encrypt, self._jobs(parts, counter, associated, outs))
        self._left_bytes -= len(sealed)
        if self._left_bytes < 0:
            self._new_session()
        return sealed

    def _jobs(
        self, parts: Sequence[Bytes], counter: int, associated: bytes, outs: Sequence[Bytes]
    ) -> list[Job]:
        return [
            (NONCE.pack(number, counter), parts[part][begin:end], associated, out)
            for number, ((part, begin, end), out) in enumerate(zip(self._cut, outs, strict=True))
        ]

    def _outs_in(self, sealed: Bytes) -> list[Bytes]:
        """Where each piece and its tag go in an array for the whole."""
        outs, at = [], len(self._head)
        for _, begin, end in self._cut:
            outs.append(sealed[at : at + end - begin + TAG_BYTES])
            at += end - begin + TAG_BYTES
        return outs

    def _lay_out(self, note: bytes, sizes: tuple[int, ...]) -> None:
        """Make room for payloads of these sizes; done anew only when they change."""
        head = write_head(key_id=self._key.id, salt=self._salt, sender=self._sender, note=note, parts=sizes)
        total = sealed_bytes(len(head), sizes)
        if total > len(self._store):
            self._store = np.empty(total, np.uint8)
        self._sealed = self._store[:total]
        self._sealed[: len(head)] = np.frombuffer(head, np.uint8)
        self._head = self._sealed.data[: len(head)]
        self._cut = cut(sizes)
        self._outs = self._outs_in(self._sealed)
        self._note, self._sizes = note, sizes

    def close(self) -> None:
        """End the helper threads."""
        self._pieces.close()

    def _forked(self) -> None:
        # The parent goes on counting under the old key, and its threads are not here.
        self._pieces = Pieces(self._pieces.threads)
        self._new_session()


_LIVE: "weakref.WeakSet[Sealer]" = weakref.WeakSet()


def _after_fork() -> None:
    for sealer in list(_LIVE):
        sealer._forked()


os.register_at_fork(after_in_child=_after_fork)
