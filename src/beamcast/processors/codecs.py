"""Compressing frames before a network hop, and decompressing them after it.

`frame.image` decodes by itself, so `Decompress` is only for readers behind it that can't. Both change the update that
they are given and pass it on.
"""

from typing import Any

from beamcast.core.errors import DataError
from beamcast.pva.compress import (
    Codec,
    Compressor,
    Shuffle,
    encode,
    make_encoder,
    set_compressed,
    set_plain,
)
from beamcast.pva.ndarray import set_image


class Compress:
    """Compresses the image of every frame; a frame that is compressed already passes unchanged.

    `codec`: "blosc", "lz4", "bslz4", "zlib" or "jpeg" (which loses detail, 8-bit images only). `level`: Blosc and zlib
    0 to 9, JPEG quality 1 to 100. `compressor` and `shuffle` are of Blosc.
    """

    def __init__(
        self,
        *,
        codec: Codec = "blosc",
        level: int | None = None,
        compressor: Compressor = "lz4",
        shuffle: Shuffle = "bit",
    ) -> None:
        self._codec = codec
        self._encoder = make_encoder(codec, level=level, compressor=compressor, shuffle=shuffle)
        self.reset_stats()

    def process(self, frame: Any) -> Any:
        """The frame, compressed; DataError when it holds no image, or one that the codec can't hold."""
        pv = frame.pv
        if is_compressed(pv):
            self._passed += 1
            return pv
        if not pv.hasField("codec.parameters"):
            raise DataError(
                "this NTNDArray has no codec field, in which a compressed image has to say what it is"
            )
        image = frame.image
        payload = encode(self._encoder, image, codec=self._codec)
        set_compressed(pv, payload, codec=self._codec, image=image)
        self._taken_bytes += image.nbytes
        self._given_bytes += payload.nbytes
        return pv

    def stats(self) -> dict[str, float]:
        """Bytes taken and given, their ratio (1 before the first frame), and frames that were compressed already."""
        taken, given = self._taken_bytes, self._given_bytes
        return {
            "takenBytes": taken,
            "givenBytes": given,
            "ratio": taken / given if given else 1.0,
            "passed": self._passed,
        }

    def reset_stats(self) -> None:
        """Count from 0 again."""
        self._taken_bytes = self._given_bytes = self._passed = 0


class Decompress:
    """Decodes the image of every frame; one that is not compressed passes unchanged."""

    def __init__(self) -> None:
        self.reset_stats()

    def process(self, frame: Any) -> Any:
        """The frame with its plain image; DataError when the payload is not what the frame says of it."""
        pv = frame.pv
        if is_compressed(pv):
            set_image(pv, frame.image)
            set_plain(pv)
            self._decoded += 1
        return pv

    def stats(self) -> dict[str, int]:
        """Frames decoded."""
        return {"decoded": self._decoded}

    def reset_stats(self) -> None:
        """Count from 0 again."""
        self._decoded = 0


def is_compressed(pv: Any) -> bool:
    """Whether the image of `pv` has a codec; DataError when `pv` is no NTNDArray."""
    if not (pv.hasField("value") and pv.hasField("dimension")):
        raise DataError("this is not an NTNDArray: it has no value, or no dimension")
    return pv.hasField("codec.name") and bool(pv.getString("codec.name"))
