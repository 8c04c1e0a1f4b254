"""The load of a trial: the workflow with its simulated detector, as a table for a TOML file."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULT = "chaos:result"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A detector of `rate_hz` and three ranks. `size`: rows and columns; `work`: parameters of the processor; `mirror`,
    `consumers`, `top`: further keys of those tables and of the file itself."""

    seconds: float = 12.0
    rate_hz: float = 300.0
    size: int = 256
    ranks: int = 3
    restarts: int = 3
    work: dict[str, Any] = field(default_factory=dict)
    mirror: dict[str, Any] = field(default_factory=dict)
    consumers: dict[str, Any] = field(default_factory=dict)
    top: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] | None = None
    """A detector outside the run, in place of the simulated one."""

    @property
    def frames(self) -> int:
        """How many frames the simulated detector takes."""
        return round(self.seconds * self.rate_hz)

    def workflow(self) -> dict[str, Any]:
        """The workflow file. The deadline of the drain leaves time for whatever has to be made again."""
        simulate = {"frames": self.frames, "rate": f"{self.rate_hz:g} Hz", "shape": [self.size, self.size]}
        return {
            "name": "chaos",
            "delivery": "at-least-once",
            "source": self.source or {"channel": "chaos:image", "simulate": simulate},
            "mirror": {"replay": "64 MiB", **self.mirror},
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
