"""Several frames in one call, as a neural network wants them."""

from beamcast.pools.frame import Frame, stack


class BatchMeans:
    """The mean of each image, computed for `batch` images at once."""

    output = {"mean": float, "profile": list[float]}  # noqa: RUF012 - a declaration, never changed

    def __init__(self, *, batch: int = 8) -> None:
        self.batch = batch

    def process_batch(self, frames: list[Frame]) -> list[dict[str, object]]:
        """One dict for each frame, in the order of the frames."""
        images = stack(frames)  # (frames, rows, columns)
        means = images.mean(axis=(1, 2))
        profiles = images.mean(axis=1)
        return [{"mean": mean, "profile": profile} for mean, profile in zip(means, profiles, strict=True)]
