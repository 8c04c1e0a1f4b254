"""When the next of several results that came together is published.

A pvAccess server keeps two updates for a client that asks for no queue (pvDatabaseCPP has that number fixed), clients
of pvxs keep four. Results that a collector releases together, and that are published back to back, overwrite each other
there: of bursts of five at 40 Hz a p4p client with its default request saw every fifth, and all of them when they were
published 0.5 ms apart. So results that came together go out a little apart while few wait. Where many wait, the results
are faster than that, and nothing is held back: latency and throughput come first.
"""

# What a client's threads need for a small update; with less, p4p loses updates on a quiet machine.
SMALL_S = 0.0005
# What a large one needs on its way: 10 Gbit/s, nearly. Loopback does twice that.
BYTES_PER_S = 1e9
# The last of several results may be late by so much on account of this.
MAX_DELAY_S = 0.01
# As many of any size are still sent apart.
FEW = 4


class Spacing:
    """Says how long to wait before a result is published. One thread."""

    __slots__ = ("_hurries", "_last_s")

    def __init__(self) -> None:
        self._last_s = float("-inf")
        self._hurries = False

    def wait_s(self, now_s: float, *, waiting: int, size_bytes: int) -> float:
        """Seconds until the next result may go out, at most; `waiting` come after it. It counts as published then."""
        apart_s = SMALL_S + size_bytes / BYTES_PER_S
        if waiting == 0:
            self._hurries = False
        elif waiting > FEW and waiting * apart_s > MAX_DELAY_S:
            self._hurries = True
        wait_s = 0.0 if self._hurries else max(0.0, self._last_s + apart_s - now_s)
        self._last_s = now_s + wait_s
        return wait_s
