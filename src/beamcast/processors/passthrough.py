"""The processor that does nothing: for splitting, distributing and measuring."""

from typing import Any


class PassThrough:
    """Publishes every update unchanged, without a copy."""

    def process(self, frame: Any) -> Any:
        """Return the update itself."""
        return frame.pv
