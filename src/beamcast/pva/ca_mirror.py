"""The mirror of a Channel Access source: it makes frames of the updates of a CA channel.

pvaccess's own mirror server can read a CA channel too, but asks for it without its time stamp, and CA updates have no
id. So here each update becomes a structure {uniqueId, value, timeStamp}: numbered in the order of arrival, from 1, with
the time that the IOC gave it. What CA dropped before (a client that is too slow gets the last value only) has no number
and can't be missed.
"""

import threading
from types import TracebackType
from typing import Any, Self

from beamcast.core.errors import WorldError

_WAIT_S = 0.05


MAY_BE_DENIED = (
    "a channel that is connected and sends no value may be one that this host or user must not read: ask whoever keeps "
    "the access security of its IOC."
)


class CaMirror:
    """As `beamcast.pva.mirror.Mirror`, for one channel. Use as a context manager."""

    def __init__(self) -> None:
        self._server: Any = None
        self._channel: Any = None
        self._queue: Any = None
        self._name = ""
        self._sent = 0
        self._serving = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ca-mirror", daemon=True)

    def __enter__(self) -> Self:
        import pvaccess

        self._server = pvaccess.PvaServer()
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._server.stop()

    def serve(self, channel: str, *, source: str, queue: int, provider: str = "ca") -> None:
        """Re-serve `source` as `channel`; it appears with the first update. `queue` in updates."""
        import pvaccess

        self._name = channel
        self._queue = pvaccess.PvObjectQueue(queue)
        self._channel = pvaccess.Channel(source, pvaccess.CA)
        self._channel.qMonitor(self._queue, f"record[queueSize={queue}]field(value,timeStamp)")
        self._thread.start()

    def serving(self, channel: str) -> bool:
        """Whether the first update has come, so that the mirrored channel exists."""
        return self._serving

    def present(self, channel: str) -> bool:
        """Whether the source is connected now; our record stays when it goes."""
        return bool(self._channel.isConnected())

    @property
    def connected(self) -> bool:
        """Whether the source's server is there."""
        return self._channel is not None and bool(self._channel.isConnected())

    def counters(self, channel: str) -> dict[str, int]:
        """Updates received, and those that found our queue full."""
        return {"nReceived": self._sent, "nOverruns": int(self._queue.getCounters().get("nRejected", 0))}

    def _run(self) -> None:
        import pvaccess

        out: Any = None
        while not self._ended.is_set():
            try:
                update = self._queue.get(_WAIT_S)
            except pvaccess.QueueEmpty:
                continue
            if out is None:
                out = _frame_like(update)
                _fill(out, update, 0)
                self._server.addRecord(self._name, out.copy())
                self._serving = True
                continue
            self._sent += 1
            _fill(out, update, self._sent)
            self._server.updateUnchecked(self._name, out)


def _frame_like(update: Any) -> Any:
    import pvaccess

    structure = update.getStructureDict()
    if "value" not in structure:
        raise WorldError("the Channel Access source has no value")
    fields = {"uniqueId": pvaccess.LONG, "value": structure["value"], "timeStamp": pvaccess.PvTimeStamp()}
    return pvaccess.PvObject(fields)


def _fill(out: Any, update: Any, frame_id: int) -> None:
    out["uniqueId"] = frame_id
    out["value"] = update["value"]
    if update.hasField("timeStamp"):
        out["timeStamp"] = update["timeStamp"]
