"""The at-most-once mirror: pvaccess's C++ mirror server, no Python on the frame path.

It re-serves a channel with the data distributor plugin, so a source that has none gets one, isolates the source
from the load of the ranks, and bridges two networks: its server listens on the cluster's side, its client looks for
the source on the beamline's.
"""

from types import TracebackType
from typing import Any, Self


class Mirror:
    """Serves mirrored channels of this process. Use as a context manager."""

    def __init__(self) -> None:
        self._server: Any = None
        self._made_of: dict[str, tuple[str, Any, int]] = {}

    def __enter__(self) -> Self:
        import pvaccess

        self._server = pvaccess.PvaMirrorServer()
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()
        self._server = None

    def serve(self, channel: str, *, source: str, queue: int, provider: str = "pva") -> None:
        """Re-serve `source` as `channel`; it appears when the source has connected. `queue` in frames."""
        import pvaccess

        kind = pvaccess.CA if provider == "ca" else pvaccess.PVA
        self._made_of[channel] = (source, kind, queue)
        self._server.addMirrorRecord(channel, source, kind, queue)

    def renew(self, channel: str) -> None:
        """Begin anew with a channel that is not served any more, although its source is back."""
        self._server.removeMirrorRecord(channel)
        self._server.addMirrorRecord(channel, *self._made_of[channel])

    def serving(self, channel: str) -> bool:
        """Whether the source has connected, so that the mirrored channel exists."""
        return bool(self._server.hasRecord(channel))

    def present(self, channel: str) -> bool:
        """Whether the source is there now; its record goes with it."""
        return self.serving(channel)

    def counters(self, channel: str) -> dict[str, int]:
        """Updates received and overruns, as the C++ server counts them."""
        return dict(self._server.getMirrorRecordCounters(channel))
