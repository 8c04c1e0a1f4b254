"""What a processor is told about the run and its place in it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beamcast.core.place import Place


@dataclass(frozen=True, slots=True)
class Context:
    """Handed to a native processor's `start(context)`.

    `base`: the workflow's folder. `scratch`: None in a run; in the check before one, a temporary folder: what a
    processor writes goes there and nowhere else.
    """

    run: str
    pool: str
    place: Place
    base: Path
    scratch: Path | None = None


@dataclass(frozen=True, slots=True)
class Station:
    """The rank that a processor is made for: what PvaPy's constructor and attributes need to know.

    `id_fields`: which field numbers the rank's input, the first that an update has. `server`: its pvaccess server.
    """

    rank: int
    input_channel: str
    output_channel: str
    id_fields: tuple[str, ...]
    server: Any
