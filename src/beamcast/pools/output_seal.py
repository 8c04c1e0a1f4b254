"""`seal` of a pool: what it publishes is sealed behind any processor. `beamcast.pools.opened` has the other half.

An NTNDArray stays one, its payload being sealed; any other structure is sealed as a whole.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from beamcast.core.errors import DataError
from beamcast.core.ids import ID_MASK
from beamcast.pva.sealed import NdArraySealer, ObjectSealer, holds_image, is_ndarray
from beamcast.security.keys import KeyRing
from beamcast.security.sealing import Sealer

SealUpdate = Callable[[Any, int | None], Any]
"""Gives the sealed form of an update, which stays as it was; the number is its frame's key, where it is known."""


class PoolSealer:
    """Seals what a rank publishes. For the frame loop's thread."""

    def __init__(self, key_file: Path, *, sender: str, id_fields: Sequence[str]) -> None:
        """`id_fields`: what may number an object that has no uniqueId. UsageError where the file can't be used."""
        self._sealer = Sealer(KeyRing.read(key_file), sender=sender)
        self._ndarrays = NdArraySealer(self._sealer)
        self._objects = ObjectSealer(self._sealer)
        self._id_fields = ("uniqueId", *id_fields)

    def fit(self, record: Any) -> tuple[Any, SealUpdate]:
        """The sealed form of an output record, and what seals the updates of it."""
        if is_ndarray(record):
            return (self._payload(record, None) if holds_image(record) else record), self._payload
        return self._objects.seal(record, frame_id=0), self._object

    def _payload(self, pv: Any, key: int | None) -> Any:
        # Sealing changes what it is given, and a processor may keep what it has returned. Arrays are not copied.
        return self._ndarrays.seal(pv.copy())

    def _object(self, pv: Any, key: int | None) -> Any:
        named = next((name for name in self._id_fields if pv.hasField(name)), None)
        if named is None and key is None:
            raise DataError("the result can't be sealed: it has no uniqueId to number it by")
        return self._objects.seal(pv, frame_id=pv[named] if named is not None else (key or 0) & ID_MASK)

    def close(self) -> None:
        """End the helper threads."""
        self._sealer.close()
