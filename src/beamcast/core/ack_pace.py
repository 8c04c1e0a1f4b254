"""When a rank says which frames it has done.

The choice: by count, and by time where that comes first. An exchange costs each side 0.2 to 0.5 ms of processor time,
whatever it carries, so exchanges by the clock alone cost a mirror more than deciding about the frames. Half a window
is the count: the other half is still under way while the dispatcher hears of it, so no rank runs dry, and a wide
window makes exchanges rare.
"""


class AckPace:
    """Asked again and again, with how many frames are done and not yet reported."""

    __slots__ = ("_count", "_delay_s", "_since")

    def __init__(self, *, window_frames: int | None, delay_s: float) -> None:
        """`window_frames`: what the rank may hold; None where only time counts. `delay_s`: the longest delay."""
        self._count = None if window_frames is None else max(1, window_frames // 2)
        self._delay_s = delay_s
        self._since: float | None = None

    def enough(self, frames: int) -> bool:
        """Whether so many are worth an exchange. From any thread."""
        return self._count is not None and frames >= self._count

    def due(self, frames: int, now: float) -> bool:
        """Whether to report now. True ends the waiting: the caller reports all of them."""
        if not frames:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        if self.enough(frames) or now - self._since >= self._delay_s:
            self._since = None
            return True
        return False
