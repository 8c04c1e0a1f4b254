"""Saving frames as image files, one image to a file.

A file is written under a name of its own and then renamed: who watches the folder sees whole images only.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from beamcast.core.errors import DataError, UsageError, WorldError
from beamcast.processors.places import writing_in

Format = Literal["tiff", "png", "jpeg", "npy"]
Publish = Literal["frame", "place"]
Writer = Callable[[Any, Any], None]
_SUFFIXES = {"tiff": "tif", "png": "png", "jpeg": "jpg", "npy": "npy"}


class SaveImages:
    """Writes every frame to `folder/<prefix><id>.<suffix>` and passes it on.

    `folder`: relative to the workflow file; made if it is not there. `format`: "tiff" and "npy" take every dtype and
    shape, "png" 8- and 16-bit images, "jpeg" 8-bit ones (it loses detail). `publish`: "frame" passes the frame on
    without a copy, "place" publishes where it is saved. Frames of later epochs have `e<epoch>-` before the id.

    `prefix` is by default `<run>-<pool>-`. A file of the same name is replaced: it is the same frame, sent again
    because its rank died. So a prefix of your own should not be used for two runs in one folder.
    """

    def __init__(
        self,
        *,
        folder: str,
        prefix: str | None = None,
        format: Format = "tiff",
        publish: Publish = "frame",
    ) -> None:
        if prefix is not None and "/" in prefix:
            raise UsageError(f"prefix {prefix!r} holds a slash", hint="give the folder as `folder`")
        self.output = {"file": str} if publish == "place" else None
        self._write = _writer(format)
        self._format = format
        self._folder = Path(folder)
        self._prefix = prefix
        self._saved = self._saved_bytes = 0

    def start(self, context: Any) -> None:
        """Make the folder; UsageError when it can't be."""
        self._folder = writing_in(context, self._folder)
        self._start = f"{context.run}-{context.pool}-" if self._prefix is None else self._prefix
        self._own = f".{context.pool}-{context.place.rank}.part"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"the folder {self._folder} can't be made: {error}") from error

    def process(self, frame: Any) -> Any:
        """Write the frame; DataError when the format can't hold its image, WorldError when the disk refuses."""
        epoch = f"e{frame.epoch}-" if frame.epoch else ""
        path = self._folder / f"{self._start}{epoch}{frame.id:010d}.{_SUFFIXES[self._format]}"
        self._save(path, frame.image)
        self._saved += 1
        return {"file": str(path)} if self.output else frame.pv

    def _save(self, path: Path, image: Any) -> None:
        partial = path.with_name(self._own)
        try:
            with partial.open("wb") as file:
                self._write(file, image)
            self._saved_bytes += partial.stat().st_size
            partial.replace(path)
        except (ValueError, TypeError, KeyError) as error:
            partial.unlink(missing_ok=True)
            raise DataError(
                f"{self._format} does not hold an image of {image.shape} {image.dtype}: {error}"
            ) from error
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise WorldError(f"{path} can't be written: {error}") from error

    def stats(self) -> dict[str, int]:
        """Images saved, and their bytes on the disk."""
        return {"saved": self._saved, "savedBytes": self._saved_bytes}

    def reset_stats(self) -> None:
        """Count from 0 again."""
        self._saved = self._saved_bytes = 0


def _writer(format: Format) -> Writer:
    """What writes an image into an open file; UsageError when the library is missing."""
    try:
        if format == "npy":
            return lambda file, image: np.save(file, image, allow_pickle=False)
        if format == "tiff":
            return _tiff()
        return _pillow("PNG" if format == "png" else "JPEG")
    except ImportError as error:
        raise UsageError(
            f"format {format!r} needs a library: {error}", hint="pip install 'beamcast[files]'"
        ) from error


def _tiff() -> Writer:
    import tifffile

    def write(file: Any, image: Any) -> None:
        colour = image.ndim == 3 and image.shape[2] == 3 and image.dtype.itemsize <= 2
        tifffile.imwrite(file, image, photometric="rgb" if colour else "minisblack")

    return write


def _pillow(kind: Literal["PNG", "JPEG"]) -> Writer:
    from PIL import Image as Pillow

    depths = (np.uint8, np.uint16) if kind == "PNG" else (np.uint8,)

    def write(file: Any, image: Any) -> None:
        colour = image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
        if image.dtype not in depths or not (image.ndim == 2 or colour):
            # Pillow would take some of them and change their values.
            raise ValueError(
                "it takes grey images of uint8" + (" or uint16" if len(depths) > 1 else "") + ", RGB of uint8"
            )
        Pillow.fromarray(np.ascontiguousarray(image)).save(file, kind)

    return write
