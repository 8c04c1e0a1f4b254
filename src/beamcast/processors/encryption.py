"""Sealing frames before they leave the trusted network, and opening them where they may be seen.

Both change the update that they are given and pass it on: what goes into `Seal` should not be kept by others.
"""

from pathlib import Path
from typing import Any, Literal, get_args

from beamcast.core.errors import UsageError
from beamcast.pva.sealed import NdArrayOpener, NdArraySealer, ObjectOpener, ObjectSealer, holds_image
from beamcast.security.keys import KeyRing
from beamcast.security.opening import Opener
from beamcast.security.sealing import Sealer

Scope = Literal["payload", "object"]


class Seal:
    """Encrypts every frame with AES-256-GCM.

    `key_file`: the file with the keys (mode 0600), relative to the workflow file. `sender`: the name in the head of
    each frame; by default run, pool and rank. `scope`: "payload" encrypts the image of an NTNDArray, its codec then
    being "beamcast.aes256gcm"; "object" encrypts all fields of any structure and leaves id and time readable.
    """

    def __init__(self, *, key_file: str, sender: str | None = None, scope: Scope = "payload") -> None:
        if scope not in get_args(Scope):
            raise UsageError(f"scope {scope!r} is not possible", hint="use 'payload' or 'object'")
        if sender is not None and not 0 < len(sender.encode()) <= 255:
            raise UsageError("the name of a sender has 1 to 255 bytes")
        self._key_file = key_file
        self._sender = sender
        self._scope = scope
        self._sealed = 0

    def start(self, context: Any) -> None:
        """Read the keys; UsageError when others may read them too."""
        sender = self._sender or f"{context.run}/{context.pool}/{context.place.rank}"
        self._sealer = Sealer(KeyRing.read(Path(context.base) / self._key_file), sender=sender)
        self._ndarrays = NdArraySealer(self._sealer)
        self._objects = ObjectSealer(self._sealer)

    def output_type(self, probe: Any) -> Any:
        """The output record: the probe, sealed, since the record's first value can be read by anybody."""
        if self._scope == "payload":
            return self._ndarrays.seal(probe.copy()) if holds_image(probe) else probe
        return self._objects.seal(probe, frame_id=probe["uniqueId"] if probe.hasField("uniqueId") else 0)

    def process(self, frame: Any) -> Any:
        """The frame, sealed; DataError when it can't be."""
        if self._scope == "payload":
            sealed = self._ndarrays.seal(frame.pv)
        else:
            sealed = self._objects.seal(frame.pv, frame_id=frame.id)
        self._sealed += 1
        return sealed

    def stats(self) -> dict[str, int]:
        """Frames sealed since the start."""
        return {"sealed": self._sealed}

    def stop(self) -> None:
        """End the helper threads."""
        self._sealer.close()


class Open:
    """Decrypts what `Seal` encrypted, payloads and whole objects.

    A frame that was changed on the way, sealed with a key that we do not have, or came twice raises and so is counted
    as failed; nothing of it is passed on. `key_file`: as of `Seal`. `sender`: accept frames of this sender only.
    """

    def __init__(self, *, key_file: str, sender: str | None = None) -> None:
        self._key_file = key_file
        self._sender = sender
        self._opened = 0
        self._refused = 0

    def start(self, context: Any) -> None:
        """Read the keys; UsageError when others may read them too."""
        self._opener = Opener(KeyRing.read(Path(context.base) / self._key_file), sender=self._sender)
        self._ndarrays = NdArrayOpener(self._opener)
        self._objects = ObjectOpener(self._opener)

    def output_type(self, probe: Any) -> Any:
        """The output record: like the input, or like the object that is sealed in it."""
        return self._objects.open(probe, look_only=True) if probe.hasField("sealed") else probe

    def process(self, frame: Any) -> Any:
        """The frame as it was before sealing; SealError when it is not good."""
        pv = frame.pv
        self._refused += 1
        opened = self._objects.open(pv) if pv.hasField("sealed") else self._ndarrays.open(pv)
        self._refused -= 1
        self._opened += 1
        return opened

    def stats(self) -> dict[str, int]:
        """Frames opened, and refused because they were not good, since the start."""
        return {"opened": self._opened, "refused": self._refused}

    def stop(self) -> None:
        """End the helper threads."""
        self._opener.close()
