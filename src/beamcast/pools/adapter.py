"""A processor written for PvaPy's streaming framework, unchanged, as the rank uses it.

The rule for what counts as one: the class derives from a class of `pvapy.hpc`, or it has one of the hooks that only
PvaPy names so (`getStats`, `getStatsPvaTypes`, `resetStats`, `getInputPvObjectType`, `getOutputPvObjectType`,
`updateOutputChannel`), or its constructor's only positional parameter is called `configDict`.

Such a processor publishes by itself. A frame during which it published is processed, a frame during which it
published nothing is dropped, and one that could not be published is failed: PvaPy's base class logs that and goes on,
we do not lose it.
"""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from beamcast.core.errors import NothingToConfigure, UsageError
from beamcast.pools.context import Context, Station
from beamcast.pools.frame import Frame

HOOKS = (
    "getStats",
    "getStatsPvaTypes",
    "resetStats",
    "getInputPvObjectType",
    "getOutputPvObjectType",
    "updateOutputChannel",
)
PUBLISHED = object()


def is_pvapy_class(made: type) -> bool:
    """Whether a class follows PvaPy's interface and not ours; the rule stands at the top of this module."""
    if any(base.__module__.startswith("pvapy.") for base in made.__mro__):
        return True
    if any(callable(getattr(made, hook, None)) for hook in HOOKS):
        return True
    try:
        parameters = inspect.signature(made).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return positional == ["configDict"]


def pvapy_config(params: Mapping[str, object], station: Station) -> dict[str, Any]:
    """The dictionary that PvaPy's controller hands to a processor's constructor."""
    return {
        **params,
        "processorId": station.rank,
        "inputChannel": station.input_channel,
        "inputMode": "pva",
        "inputArgs": None,
        "outputChannel": station.output_channel,
        "outputMode": "pvas",
        "outputArgs": None,
        "objectIdField": station.id_fields[0],
        "skipInitialUpdates": 1,
        "objectIdOffset": 1,
        "nSequentialUpdates": 1,
        "fieldRequest": "",
    }


class Publisher:
    """Stands in for PvaPy's DataPublisher; the names are PvaPy's, since processors use them."""

    def __init__(self, channel: str, send: Callable[[Any], None]) -> None:
        self.outputChannel = channel
        self.nPublished = 0
        self.nErrors = 0
        self.problem: Exception | None = None
        self._send = send

    def updateOutputChannel(self, pvObject: Any) -> None:  # noqa: N802, N803 - PvaPy's name
        """Publish an object; raises what went wrong and keeps it, since PvaPy's base class swallows it."""
        try:
            self._send(pvObject)
        except Exception as error:
            self.nErrors += 1
            self.problem = error
            raise
        self.nPublished += 1

    def getStats(self) -> dict[str, int]:  # noqa: N802 - PvaPy's name
        """Numbers of objects published and refused."""
        return {"nPublished": self.nPublished, "nErrors": self.nErrors}

    def resetStats(self) -> None:  # noqa: N802 - PvaPy's name
        """Count from 0 again."""
        self.nPublished = self.nErrors = 0


class PvapyProcessor:
    """Fills in `beamcast.pools.processor.LoadedProcessor` for a processor of PvaPy's interface."""

    publishes_itself = True
    process_batch = None
    batch = 1
    outputs = 1
    fields: Sequence[Mapping[str, Any] | None] = (None,)

    def __init__(self, user: Any, *, spec: str, station: Station) -> None:
        """Inject what PvaPy injects after construction. UsageError when there is no `process`."""
        if not callable(getattr(user, "process", None)):
            raise UsageError(f"processor {spec!r} has no method process(pvObject)")
        self._user = user
        self._station = station
        self._publisher = Publisher(station.output_channel, self._not_open)
        user.processorId = station.rank
        user.objectIdField = station.id_fields[0]
        user.metadataQueueMap = {}
        if getattr(user, "logger", None) is None:
            user.logger = logging.getLogger(f"processor-{station.rank}")
        # A class that is only shaped like PvaPy's may publish without having defined how.
        if not hasattr(user, "updateOutputChannel"):
            user.updateOutputChannel = self._publisher.updateOutputChannel

    @staticmethod
    def _not_open(pv: Any) -> None:
        raise UsageError("nothing can be published before the first frame")

    def take_metadata_queues(self, queues: Mapping[str, Any]) -> None:
        """Say where the metadata of the frames comes; by channel, as in PvaPy."""
        self._user.metadataQueueMap = dict(queues)

    def attach(self, send: Callable[[Any], None]) -> None:
        """Say where published objects go."""
        self._publisher = Publisher(self._station.output_channel, send)
        if "updateOutputChannel" in vars(self._user):
            self._user.updateOutputChannel = self._publisher.updateOutputChannel

    def process(self, frame: Frame) -> Any:
        """Hand the update to the processor. `PUBLISHED`, or None when it published nothing."""
        publisher = self._publisher
        before = publisher.nPublished
        self._user.process(frame.pv)
        if publisher.problem is not None:
            problem, publisher.problem = publisher.problem, None
            raise problem
        return PUBLISHED if publisher.nPublished != before else None

    def records(self, probe: Any) -> Sequence[Any]:
        """What the output record is made like. Where the processor says None, it does not publish."""
        hook = getattr(self._user, "getOutputPvObjectType", None)
        has = [name for name in self._station.id_fields if probe.hasField(name)]
        self._user.objectIdField = has[0] if has else self._station.id_fields[0]
        made = hook(probe) if hook is not None else probe
        self._user.dataPublisher = self._publisher if made is not None else None
        return [made if made is not None else probe]

    def start(self, context: Context) -> None:
        """Inject the channels and the server, then call `start()`."""
        user, station = self._user, self._station
        user.pvaServer = station.server
        user.dataPublisher = None
        user.outputChannel = station.output_channel
        user.inputChannel = station.input_channel
        self._call("start")

    def stop(self) -> None:
        """Call `stop()`."""
        self._call("stop")

    def configure(self, values: Mapping[str, object]) -> None:
        """Call `configure(configDict)`; UsageError when it has none."""
        if not hasattr(self._user, "configure"):
            raise NothingToConfigure("this processor has no configure()")
        self._user.configure(dict(values))

    def reset_stats(self) -> None:
        """Call `resetStats()`."""
        self._publisher.resetStats()
        self._call("resetStats")

    def stats(self) -> Mapping[str, Any]:
        """What `getStats()` says."""
        return self._call("getStats") or {}

    def stats_types(self) -> Mapping[str, Any]:
        """What `getStatsPvaTypes()` says."""
        return self._call("getStatsPvaTypes") or {}

    def _call(self, hook: str) -> Any:
        method = getattr(self._user, hook, None)
        return method() if method is not None else None
