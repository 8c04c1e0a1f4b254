"""The load of a trial: how many frames of which size, and the workflow that takes them, as a table for a TOML file."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCE, RESULT = "chaos:image", "chaos:result"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A detector of `rate_hz` and `ranks` consumers. `size`: rows and columns; `work`: parameters of the processor;
    `mirror`, `consumers`, `top`: further keys of those tables and of the file itself."""

    seconds: float = 12.0
    rate_hz: float = 300.0
    size: int = 256
    ranks: int = 3
    restarts: int = 3
    delivery: str = "at-least-once"
    work: dict[str, Any] = field(default_factory=dict)
    mirror: dict[str, Any] = field(default_factory=dict)
    consumers: dict[str, Any] = field(default_factory=dict)
    top: dict[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """How many frames the detector takes in one go."""
        return round(self.seconds * self.rate_hz)

    def workflow(self, *, detector: str) -> dict[str, Any]:
        """The workflow file; `detector` is "host:port". The deadline of the drain leaves time for whatever has to be
        made again."""
        return {
            "name": "chaos",
            "delivery": self.delivery,
            "source": {"channel": SOURCE, "address": detector},
            "mirror": {"replay": "256 MiB", **self.mirror}
            if self.delivery == "at-least-once"
            else self.mirror,
            "pools": [self._consumers(), self._collector()],
            "results": {"pool": "collect", "channel": RESULT},
            "deadlines": {"start": "60 s", "drain": "60 s"},
            **self.top,
        }

    def _consumers(self) -> dict[str, Any]:
        return {
            "name": "work",
            "role": "consumer",
            "input": "source",
            "ranks": self.ranks,
            "processor": f"{HERE / 'processors.py'}:Misbehaving",
            "params": self.work,
            "restart": {"max_restarts": self.restarts},
            **self.consumers,
        }

    def _collector(self) -> dict[str, Any]:
        restart = {"max_restarts": self.restarts}
        return {"name": "collect", "role": "collector", "input": "work", "restart": restart}
