"""When a time stamp holds no time: the same rule for frames, metadata and recordings."""

# 1970 is what a record holds before anybody has set its time, and what a detector without a clock sends; 1990-01-01,
# the EPICS epoch, is what an IOC's record holds that was never processed. Both to the nanosecond.
_UNSET_S = (0, 631_152_000)


def has_time(seconds: float, nanoseconds: int = 0) -> bool:
    """Whether a time stamp, since 1970, was ever set."""
    return bool(nanoseconds) or seconds not in _UNSET_S
