"""Opening what `sealing` sealed: a payload comes out as it went in, once, or not at all.

An opener remembers what it has opened, session by session. What was recorded before it was made is not known to it:
it refuses what comes twice in its own life.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from beamcast.security.envelope import TAG_BYTES, Head, Replayed, Tampered, UnknownKey, cut, read_head
from beamcast.security.keys import KeyRing
from beamcast.security.pieces import Job, Pieces
from beamcast.security.replay import ReplayWindow
from beamcast.security.sealing import NONCE, Bytes, session_key

# Views of several parts start where any element type and the processor's widest loads may.
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Opened:
    """A payload that was good. `parts` are views into the opener's buffer, valid until it opens the next, or what the
    caller had made for them."""

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
        self,
        sealed: Bytes,
        *,
        context: bytes = b"",
        head: Head | None = None,
        look_only: bool = False,
        into: Bytes | None = None,
    ) -> Opened:
        """Open an array of uint8 that `Sealer.seal` made with the same `context`.

        `head`: what `read_head` said of the same array, if the caller had to look. `look_only` leaves no trace, so
        the payload can be opened again. `into`: where the only part is to go; if it is not good, nothing in there may
        be used. Malformed, UnknownKey, Replayed or Tampered when it is not good.
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
        parts, slices = self._parts, self._slices
        if into is not None:
            parts, slices = [into], [into[begin:end] for _, begin, end in cut(head.parts)]
        self._decrypt(session, sealed, head, context, slices)
        if not look_only:
            session.window.take(head.counter)
            # Only now, so that forged heads fill no memory.
            if not known:
                self._sessions[name] = session
        return Opened(head.sender, head.counter, head.note, parts)

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

    def _decrypt(
        self, session: _Session, sealed: Bytes, head: Head, context: bytes, slices: Sequence[Bytes]
    ) -> None:
        associated = sealed[: head.size].tobytes() + context
        jobs: list[Job] = []
        at = head.size
        for number, out in enumerate(slices):
            end = at + out.nbytes + TAG_BYTES
            jobs.append((NONCE.pack(number, head.counter), sealed[at:end], associated, out))
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
        self._slices = [self._parts[part][begin:end] for part, begin, end in cut(sizes)]
        self._layout = sizes

    def close(self) -> None:
        """End the helper threads."""
        self._pieces.close()
