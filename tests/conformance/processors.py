"""The processor of the suite's runs: notes what `frame.image` gives, passes the frame on."""

import json
from pathlib import Path
from typing import Any

from conformance.variants import image_mark


class Note:
    """Writes a line for each frame, one file for each rank."""

    def __init__(self, *, folder: str) -> None:
        self._folder = Path(folder)

    def start(self, context: Any) -> None:
        self._file = (self._folder / f"images-{context.place.rank}.jsonl").open("w", buffering=1)

    def process(self, frame: Any) -> Any:
        try:
            said = image_mark(frame.image)
        except Exception as error:  # every failure is a line of the table
            said = [f"{type(error).__name__}: {error}"]
        print(json.dumps({"id": frame.id, "image": said}), file=self._file)
        return frame.pv

    def stop(self) -> None:
        self._file.close()
