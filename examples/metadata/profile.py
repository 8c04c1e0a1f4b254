"""One row of a scan: where the motor stood, and the intensity of the frame normalised to the ring current."""

from typing import Any


class Profile:
    """Reads the values that were joined to the frame."""

    output = {"motor": float, "intensity": float}  # noqa: RUF012 - declared once, read only

    def process(self, frame: Any) -> dict[str, float]:
        """A value that did not match is not in `metadata`; NaN says so to whoever reads the result."""
        motor = frame.metadata.get("motor", float("nan"))
        return {"motor": motor, "intensity": float(frame.image.sum()) / frame.metadata["current"]}
