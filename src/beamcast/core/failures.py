"""How many failed frames are too many. Pure.

The choice: without `max_failed` a pool is given up when its first frames have all failed, since a processor that has
never succeeded is not going to, and whoever waits for the run should know at once. A hundred: with a slow detector the
first failure has stood on the screen for long by then; at 1 kHz it is a tenth of a second. One frame that came through
lifts this limit, so that a bad stretch in a long scan ends no run; at the end such a run is a bad one if more frames
failed than came through.
"""

FIRST_FRAMES = 100


def gives_up(*, failed: int, well: int, max_failed: int | None) -> bool:
    """Whether a pool is given up while the run lasts. `well`: frames on which its processor did not fail."""
    if max_failed is None:
        return not well and failed >= FIRST_FRAMES
    return failed > max_failed


def too_many(*, failed: int, well: int, max_failed: int | None) -> bool:
    """Whether a run that went to its end is no good one."""
    return failed > (well if max_failed is None else max_failed)


def failed_text(*, failed: int, pool: str, max_failed: int | None) -> str:
    """What is told when a pool is given up."""
    if max_failed is None:
        return (
            f"all {failed} frames of pool {pool} failed, and a run is given up after {FIRST_FRAMES} "
            "(`max_failed` of the pool sets another limit)"
        )
    return f"{failed} frames failed in pool {pool}, max_failed is {max_failed}"
