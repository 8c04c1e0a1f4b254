"""Whether the owner of a run directory is still there. Pure: decides from what was read, has no clock or files.

A process that has gone from this host is gone for certain: its pid, the time it was started and the host's boot are in
the lease. Of another host only its silence can be seen, so a lease is renewed, and one that was not for long is stale.
"""

from enum import StrEnum

import msgspec

RENEW_S = 5.0
# An owner that is merely slow (a busy file server, a stopped process) must not lose its run: several renewals have to
# be missing. Whoever waits for a dead owner of another host waits as long.
STALE_S = 45.0


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who owns a run directory. `epoch` counts the owners it has had, from 1; `token` names this one.

    `started` is when the process began (seconds since 1970, by its host), `boot` the boot of its host: a pid means
    something together with both only. `released`: the owner has left in good order.
    """

    run: str
    host: str
    boot: str
    pid: int
    started: float
    epoch: int
    token: str
    renewals: int = 0
    released: bool = False


class Ownership(StrEnum):
    """What can be said of the owner."""

    LIVES = "lives"
    LEFT = "left"  # in good order
    GONE = "gone"  # its process is not there any more
    SILENT = "silent"  # on another host, and not heard of for too long


def judge(lease: Lease, *, host: str, boot: str, started: float | None, age_s: float) -> Ownership:
    """What has become of the owner, as seen from `host`.

    `started`: when the process with the lease's pid on this host began, None where there is no such process. `age_s`:
    how long ago the lease was renewed, by the clock of the file system.
    """
    if lease.released:
        return Ownership.LEFT
    if lease.host != host:
        return Ownership.SILENT if age_s > STALE_S else Ownership.LIVES
    same = lease.boot == boot and started is not None and abs(started - lease.started) < 1.0
    return Ownership.LIVES if same else Ownership.GONE
