"""The status of a rank in the fields that PvaPy's consumer and collector have, so that tools made for them work.

What the numbers tell apart: `receiverStats.nOverruns` was lost in the queue of the sending server (as pvAccess counts
it, which is less than the truth), `nRejected` was refused by our own full queue, `processorStats.nDropped` the
processor left out on purpose, and `processorStats.nErrors` it failed on.
"""

import time
from typing import Any

import msgspec
from msgspec import structs

from beamcast.pva.messages import Counters

# PvaPy's identifiers have 32 bits without sign.
_UINT = 0xFFFFFFFF


def status_structure(role: str) -> dict[str, Any]:
    """The fields of the status PV of a consumer or collector."""
    import pvaccess as pva

    def numbers(*names: str) -> dict[str, Any]:
        rates = {f"{_stem(name)}Rate": pva.DOUBLE for name in names if name in _RATED}
        return {**dict.fromkeys(names, pva.UINT), **rates}

    times = ("runtime", "startTime", "endTime", "receivingTime", "busyTime", "stuckTime")
    status: dict[str, Any] = {
        f"{role}Id": pva.UINT,
        "inputChannel": pva.STRING,
        "objectId": pva.UINT,
        "objectTime": pva.DOUBLE,
        "objectTimestamp": pva.PvTimeStamp(),
        "receiverStats": numbers("nReceived", "nRejected", "nErrors", "nOverruns"),
        "publisherStats": numbers("nPublished", "nErrors"),
        "queueStats": dict.fromkeys(("nReceived", "nRejected", "nDelivered", "nQueued"), pva.UINT),
        "processorStats": {
            **numbers("nProcessed", "nDropped", "nErrors", "nMissed"),
            **dict.fromkeys(times, pva.DOUBLE),
        },
    }
    if role == "collector":
        status["collectorStats"] = {**numbers("nCollected", "nRejected", "nMissed"), "nCached": pva.UINT}
    return status


_RATED = (
    "nReceived",
    "nRejected",
    "nErrors",
    "nOverruns",
    "nPublished",
    "nProcessed",
    "nMissed",
    "nCollected",
)
_STEMS = {"nErrors": "error", "nOverruns": "overrun"}


def _stem(name: str) -> str:
    return _STEMS.get(name) or name[1].lower() + name[2:]


class RankStatus:
    """The numbers of one rank since the last reset. One thread at a time."""

    def __init__(self, role: str, input_channel: str) -> None:
        self._role = role
        self._input_channel = input_channel
        self._base = Counters()
        self._last = Counters()
        self._since = time.time()

    def reset(self) -> None:
        """Count from 0 again. The run's own books are not touched."""
        self._base = self._last
        self._since = time.time()

    def values(self, counters: Counters, *, stuck_s: float, last_id: int | None) -> dict[str, Any]:
        """The values of the status PV; `counters` are those since the start of the rank."""
        self._last = counters
        now = time.time()
        counted = _since(counters, self._base)
        runtime = max(now - self._since, 1e-6)
        missed = counted.server_overruns + counted.receiver_rejected
        taken = counted.processed + counted.dropped + counted.failed
        status: dict[str, Any] = {
            "inputChannel": self._input_channel,
            "objectTime": now,
            "receiverStats": _with_rates(
                {
                    "nReceived": counted.received,
                    "nRejected": counted.receiver_rejected,
                    "nOverruns": counted.server_overruns,
                },
                runtime,
            ),
            "publisherStats": _with_rates({"nPublished": counted.published}, runtime),
            "queueStats": {
                "nReceived": counted.received,
                "nRejected": counted.receiver_rejected,
                "nDelivered": taken,
                "nQueued": counters.queued,
            },
            "processorStats": {
                **_with_rates({"nProcessed": counted.processed, "nMissed": missed}, runtime),
                "nDropped": counted.dropped,
                **_with_rates({"nErrors": counted.failed}, runtime),
                "runtime": runtime,
                "startTime": self._since,
                "busyTime": counted.busy_s,
                "stuckTime": stuck_s,
            },
        }
        if last_id is not None:
            status["objectId"] = last_id & _UINT
        if self._role == "collector":
            gathered = {"nCollected": taken, "nRejected": counted.late, "nMissed": missed}
            status["collectorStats"] = {**_with_rates(gathered, runtime), "nCached": counters.queued}
        return status


def _with_rates(numbers: dict[str, int], runtime: float) -> dict[str, Any]:
    return {**numbers, **{f"{_stem(name)}Rate": number / runtime for name, number in numbers.items()}}


def _since(counters: Counters, base: Counters) -> Counters:
    # A counter of pvAccess begins again with a new monitor: never less than nothing.
    values = msgspec.structs.asdict(counters)
    return structs.replace(
        counters, **{name: max(value - getattr(base, name), 0) for name, value in values.items()}
    )
