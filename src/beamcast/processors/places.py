"""Where processors write."""

from pathlib import Path
from typing import Any


def writing_in(context: Any, path: Path) -> Path:
    """Where a processor writes what was given as `path`, relative to the workflow file; in the check before a run a
    place that nobody looks at."""
    scratch: Path | None = getattr(context, "scratch", None)
    return Path(context.base) / path if scratch is None else scratch / path.name
