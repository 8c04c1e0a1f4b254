"""The processor of the chaos suite: says what it saw and which process made the result, and misbehaves on request."""

import os
import time
from typing import Any, ClassVar

# What each frame carries for a beamline client that wants to know who made its result, and when.
OUTPUT: dict[str, type] = {"total": float, "made_at": float, "pid": int}


class Misbehaving:
    """The total of each image, after some work.

    `work_s`: seconds that a frame takes. `slow_rank`, `slow_factor`: this rank takes so many times longer. `abort_id`:
    the frame on which the whole process dies. `raise_id`: the frame on which the processor raises. `sums`: False leaves
    the payload alone, so that only the transport is measured.
    """

    output: ClassVar[dict[str, type]] = OUTPUT

    def __init__(
        self,
        *,
        work_s: float = 0.0,
        slow_rank: int | None = None,
        slow_factor: float = 1.0,
        abort_id: int | None = None,
        raise_id: int | None = None,
        sums: bool = True,
    ) -> None:
        self._work_s = work_s
        self._slow_rank = slow_rank
        self._slow_factor = slow_factor
        self._abort_id = abort_id
        self._raise_id = raise_id
        self._sums = sums

    def start(self, context: Any) -> None:
        """Become the slow rank, if this is the one."""
        if context.place.rank == self._slow_rank:
            self._work_s *= self._slow_factor

    def process(self, frame: Any) -> dict[str, Any]:
        """Work, then answer; or not."""
        if frame.id == self._abort_id:
            os.abort()
        if frame.id == self._raise_id:
            raise ValueError(f"frame {frame.id} can't be processed")
        if self._work_s:
            time.sleep(self._work_s)
        total = float(frame.image.sum()) if self._sums else 0.0
        return {"total": total, "made_at": time.time(), "pid": os.getpid()}
