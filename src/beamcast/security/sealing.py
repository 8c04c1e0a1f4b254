"""Sealing payloads with AES-256-GCM, and opening them: secret, and good only as they were sent, once.

Each sender's session has a key of its own: HKDF-SHA256 of the ring's key over a random salt and the sender's name. So
nonces are plain counters: two ranks, or one before and after a restart, never share a key, and a counter never
repeats under one. A nonce is the piece's number (4 bytes) and the frame's counter (8 bytes). Associated data of each
piece are the head and the caller's `context`, the readable fields that belong to the payload.

Who holds the key file can seal in any sender's name: the name tells members apart, it does not prove which one it
was. What was recorded before an `Opener` was made is not known to it: it refuses what came twice in its own life.

The buffers are kept from frame to frame: with 16 MiB frames, fresh memory would cost as much as the cipher.
"""

import os
import secrets
import struct
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from beamcast.security.envelope import (
    COUNTER,
    COUNTER_OFFSET,
    PIECE_BYTES,
    SALT_BYTES,
    TAG_BYTES,
    Head,
    Replayed,
    Tampered,
    UnknownKey,
    pieces_of,
    read_head,
    sealed_bytes,
    write_head,
)
from beamcast.security.keys import KEY_BYTES, Key, KeyRing
from beamcast.security.pieces import Job, Pieces
from beamcast.security.replay import ReplayWindow

Bytes = NDArray[np.uint8]

_NONCE = struct.Struct("<IQ")
_INFO = b"beamcast stream v1\0"
# GCM stays far from its limits: an attacker's advantage after 2^48 bytes under one key is below 2^-38.
_MAX_SESSION_BYTES = 1 << 48
# Views of several parts start where any element type and the processor's widest loads may.
_ALIGNMENT = 64


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
        self._layout: tuple[bytes, tuple[int, ...]] | None = None

    def seal(self, parts: Sequence[Bytes], *, note: bytes = b"", context: bytes = b"") -> Bytes:
        """Seal the `parts` (contiguous arrays of uint8, read only) into one array of uint8.

        `note` travels readable in the head, `context` does not travel; neither can be changed unnoticed. The result
        is valid until the next call. UsageError when head fields are too long, see `write_head`.
        """
        layout = (note, tuple([part.nbytes for part in parts]))
        if layout != self._layout:
            self._lay_out(note, layout[1])
        # Counted before it is used: a call that fails halfway must not leave its nonces to the next.
        counter = self._counter
        self._counter = counter + 1
        COUNTER.pack_into(self._head, COUNTER_OFFSET, counter)
        associated = bytes(self._head) + context
        if len(self._slices) == 1:
            self._encrypt(_NONCE.pack(0, counter), parts[0], associated, self._slices[0][3])
        else:
            self._pieces.run(self._encrypt, self._jobs(parts, counter, associated))
        self._left_bytes -= len(self._sealed)
        sealed = self._sealed
        if self._left_bytes < 0:
            self._new_session()
        return sealed

    def _jobs(self, parts: Sequence[Bytes], counter: int, associated: bytes) -> list[Job]:
        return [
            (_NONCE.pack(number, counter), parts[part][begin:end], associated, out)
            for number, (part, begin, end, out) in enumerate(self._slices)
        ]

    def _lay_out(self, note: bytes, sizes: tuple[int, ...]) -> None:
        """Make room for payloads of these sizes; done anew only when they change."""
        head = write_head(key_id=self._key.id, salt=self._salt, sender=self._sender, note=note, parts=sizes)
        total = sealed_bytes(len(head), sizes)
        if total > len(self._store):
            self._store = np.empty(total, np.uint8)
        self._sealed = self._store[:total]
        self._sealed[: len(head)] = np.frombuffer(head, np.uint8)
        self._head = self._sealed.data[: len(head)]
        self._slices: list[tuple[int, int, int, Bytes]] = []
        at = len(head)
        for part, begin, end in _cut(sizes):
            out = self._sealed[at : at + end - begin + TAG_BYTES]
            self._slices.append((part, begin, end, out))
            at += len(out)
        self._layout = (note, sizes)

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


@dataclass(frozen=True, slots=True)
class Opened:
    """A payload that was good. `parts` are views into the opener's buffer, valid until it opens the next."""

    sender: str
    counter: int
    note: bytes
    parts: list[Bytes]


class _Session:
    __slots__ = ("decrypt", "window")

    def __init__(self, key: AESGCM) -> None:
        self.decrypt = key.decrypt_into
        self.window = ReplayWindow()


class Opener:
    """Opens payloads of any number of senders, in one thread."""

    def __init__(self, keys: KeyRing, *, sender: str | None = None, threads: int | None = None) -> None:
        """`sender`: the only one accepted; None for all that hold the key."""
        self._keys = keys
        self._only = sender
        self._pieces = Pieces(threads)
        self._store: Bytes = np.empty(0, np.uint8)
        self._layout: tuple[int, ...] | None = None
        self._parts: list[Bytes] = []
        self._slices: list[Bytes] = []
        self._sessions: dict[tuple[bytes, bytes, str], _Session] = {}

    def __repr__(self) -> str:
        return f"Opener({self._keys!r}, sender={self._only!r})"

    def open(
        self, sealed: Bytes, *, context: bytes = b"", head: Head | None = None, look_only: bool = False
    ) -> Opened:
        """Open an array of uint8 that `Sealer.seal` made with the same `context`.

        `head`: what `read_head` said of the same array, if the caller had to look. `look_only` leaves no trace, so
        the payload can be opened again. Malformed, UnknownKey, Replayed or Tampered when it is not good.
        """
        if head is None:
            head = read_head(sealed.data)
        name = (head.key_id, head.salt, head.sender)
        session = self._sessions.get(name)
        known = session is not None
        if session is None:
            session = self._start_session(head)
        if not look_only and not session.window.is_new(head.counter):
            raise Replayed(f"frame {head.counter} of {head.sender!r} came a second time, or far too late")
        if head.parts != self._layout:
            self._lay_out(head.parts)
        self._decrypt(session, sealed, head, context)
        if not look_only:
            session.window.take(head.counter)
            # Only now, so that forged heads fill no memory.
            if not known:
                self._sessions[name] = session
        return Opened(head.sender, head.counter, head.note, self._parts)

    def _start_session(self, head: Head) -> _Session:
        if self._only is not None and head.sender != self._only:
            raise UnknownKey(f"the payload is from {head.sender!r}, only {self._only!r} is accepted")
        key = self._keys.find(head.key_id)
        if key is None:
            raise UnknownKey(
                f"the payload was sealed with key {head.key_id.hex()}, which we do not have",
                hint="give both sides the same key file",
            )
        return _Session(session_key(key, salt=head.salt, sender=head.sender))

    def _decrypt(self, session: _Session, sealed: Bytes, head: Head, context: bytes) -> None:
        associated = sealed[: head.size].tobytes() + context
        jobs: list[Job] = []
        at = head.size
        for number, out in enumerate(self._slices):
            end = at + out.nbytes + TAG_BYTES
            jobs.append((_NONCE.pack(number, head.counter), sealed[at:end], associated, out))
            at = end
        try:
            self._pieces.run(session.decrypt, jobs)
        except InvalidTag:
            raise Tampered(
                f"frame {head.counter} of {head.sender!r} is not as it was sealed, or the key is another one"
            ) from None

    def _lay_out(self, sizes: tuple[int, ...]) -> None:
        starts, total = [], 0
        for size in sizes:
            starts.append(total)
            total += -(-size // _ALIGNMENT) * _ALIGNMENT
        if total > len(self._store):
            self._store = np.empty(total, np.uint8)
        self._parts = [self._store[at : at + size] for at, size in zip(starts, sizes, strict=True)]
        self._slices = [self._parts[part][begin:end] for part, begin, end in _cut(sizes)]
        self._layout = sizes

    def close(self) -> None:
        """End the helper threads."""
        self._pieces.close()


def _cut(sizes: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(part, begin, end) of each piece, in order."""
    return [
        (part, number * PIECE_BYTES, min(size, (number + 1) * PIECE_BYTES))
        for part, size in enumerate(sizes)
        for number in range(pieces_of(size))
    ]
