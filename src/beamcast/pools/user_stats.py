"""What a processor counts about itself, as part of the rank's status PV (`userStats`, as in PvaPy)."""

import logging
from typing import Any

from beamcast.pools.processor import LoadedProcessor

logger = logging.getLogger(__name__)


class UserStats:
    """Reads a processor's statistics on the heartbeat thread; what they do wrong costs them, not the rank."""

    def __init__(self, processor: LoadedProcessor) -> None:
        self._processor = processor
        self._complained = False
        self._types: dict[str, Any] = self._guarded(processor.stats_types)

    @property
    def structure(self) -> dict[str, Any]:
        """The part of the status structure, empty where there are no statistics."""
        return {"userStats": self._types} if self._types else {}

    def read(self) -> dict[str, Any]:
        """The values now, empty where there are none."""
        if not self._types:
            return {}
        stats = self._guarded(self._processor.stats)
        return {"userStats": {name: _plain(value) for name, value in stats.items() if name in self._types}}

    def _guarded(self, call: Any) -> dict[str, Any]:
        try:
            return dict(call())
        except (Exception, SystemExit):
            if not self._complained:
                logger.exception("the statistics of the processor can't be read")
            self._complained = True
            return {}


def _plain(value: Any) -> Any:
    """PvaPy's numbers with units and NumPy's scalars are refused by pvaccess: the bare number."""
    if isinstance(value, bool | str):
        return value
    bare = value.item() if hasattr(value, "item") else value
    if isinstance(bare, int):
        return int(bare)
    return float(bare) if isinstance(bare, float) else bare
