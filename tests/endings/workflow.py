"""A run that would go on for minutes."""

from pathlib import Path

_WORKFLOW = """
name = "ending"
[source]
channel = "{prefix}:image"
[source.simulate]
frames = {frames}
rate = "{rate} Hz"
shape = [64, 64]
[[pools]]
name = "work"
role = "consumer"
input = "source"
ranks = 2
[[pools]]
name = "collect"
role = "collector"
input = "work"
[results]
pool = "collect"
channel = "{prefix}:result"
"""


def write_workflow(folder: Path, *, prefix: str, frames: int = 100_000, rate: int = 100) -> None:
    """Write `workflow.toml`."""
    (folder / "workflow.toml").write_text(_WORKFLOW.format(prefix=prefix, frames=frames, rate=rate))
