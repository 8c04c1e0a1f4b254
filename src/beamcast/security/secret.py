"""The per-run secret and the sealing of messages with it: who does not hold it cannot join or command a run.

A message travels as an envelope: version, sender, counter, body and an HMAC-SHA256 over all of them. The counter of
a sender only grows, so a recorded message can't be played again. Answers carry the counter of their request and the
direction, so neither an answer nor a request can stand in for another. The body is not hidden: frames and commands
that must be are encrypted elsewhere.
"""

import hmac
import os
import secrets
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from beamcast.core.errors import DataError, UsageError

VERSION = 1
SECRET_BYTES = 32
MAC_BYTES = 32
_HEAD = struct.Struct("<BcHQ")  # version, direction, length of the sender's name, counter

Direction = Literal["request", "answer"]
_DIRECTION: dict[Direction, bytes] = {"request": b"Q", "answer": b"A"}


class Refused(DataError):
    """A message that is not from a member of this run, is damaged, or was seen before."""


class RunSecret:
    """The key of one run. Its text never shows the key."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) != SECRET_BYTES:
            raise UsageError(f"a run secret has {SECRET_BYTES} bytes, this one has {len(key)}")
        self._key = key

    def __repr__(self) -> str:
        return "RunSecret(…)"

    @classmethod
    def create(cls) -> Self:
        """A new random secret."""
        return cls(secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a secret file; UsageError when others than its owner may read it."""
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            raise UsageError(f"{path} may be read by others (mode {mode:03o})", hint=f"chmod 600 '{path}'")
        try:
            text = path.read_text(encoding="utf-8")
        except PermissionError as error:
            hint = "only who started the run can speak with it"
            raise UsageError(f"{path} belongs to another user", hint=hint) from error
        return cls(bytes.fromhex(text.strip()))

    def write(self, path: Path) -> None:
        """Write the secret into a new file that only its owner may read."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(self._key.hex() + "\n")

    def mac(self, data: bytes) -> bytes:
        """HMAC-SHA256 of `data`, 32 bytes."""
        return hmac.digest(self._key, data, "sha256")


@dataclass(frozen=True, slots=True)
class Opened:
    """A message whose seal was good."""

    sender: str
    counter: int
    body: bytes


def seal(secret: RunSecret, *, direction: Direction, sender: str, counter: int, body: bytes) -> bytes:
    """The envelope of one message."""
    name = sender.encode()
    sealed = _HEAD.pack(VERSION, _DIRECTION[direction], len(name), counter) + name + body
    return sealed + secret.mac(sealed)


def unseal(secret: RunSecret, envelope: bytes, *, direction: Direction) -> Opened:
    """Check and open an envelope; Refused when it is damaged, of another run, version or direction."""
    if len(envelope) < _HEAD.size + MAC_BYTES:
        raise Refused("the message is too short to be one of ours")
    sealed, mac = envelope[:-MAC_BYTES], envelope[-MAC_BYTES:]
    if not hmac.compare_digest(secret.mac(sealed), mac):
        raise Refused("the message was not sealed with this run's secret")
    version, way, length, counter = _HEAD.unpack_from(sealed)
    if version != VERSION:
        raise Refused(
            f"the message has version {version}, we speak {VERSION}", hint="use one beamcast on both sides"
        )
    if way != _DIRECTION[direction]:
        raise Refused(f"the message is not a {direction}")
    name = sealed[_HEAD.size : _HEAD.size + length]
    return Opened(sender=name.decode(), counter=counter, body=sealed[_HEAD.size + length :])


class ReplayGuard:
    """Remembers the last counter of each sender and refuses what was seen before."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def admit(self, message: Opened) -> None:
        """Take note of a message; Refused when its counter did not grow."""
        if message.counter <= self._last.get(message.sender, -1):
            raise Refused(f"a message of {message.sender} came a second time (counter {message.counter})")
        self._last[message.sender] = message.counter
