"""The status and control PVs of a rank, with the names and fields that PvaPy's tools expect.

A write to the control PV is rare and by a person or a script; it is carried out on the frame loop's thread between
two frames, and `statusMessage` is written when the thing is done.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from beamcast.core.errors import UsageError
from beamcast.pools.processor import LoadedProcessor
from beamcast.pools.steering import Steering
from beamcast.pools.user_stats import UserStats
from beamcast.pva.messages import Counters, RankDuty

MAX_ARGUMENT_CHARACTERS = 65536


def _status_structure(id_field: str) -> dict[str, Any]:
    import pvaccess as pva

    counted = ("nReceived", "nRejected", "nErrors", "nOverruns")
    return {
        id_field: pva.UINT,
        "inputChannel": pva.STRING,
        "objectTime": pva.DOUBLE,
        "objectTimestamp": pva.PvTimeStamp(),
        "receiverStats": {**dict.fromkeys(counted, pva.UINT), "receivedRate": pva.DOUBLE},
        "publisherStats": {"nPublished": pva.UINT, "nErrors": pva.UINT, "publishedRate": pva.DOUBLE},
        "queueStats": dict.fromkeys(("nReceived", "nRejected", "nDelivered", "nQueued"), pva.UINT),
        "processorStats": {
            **dict.fromkeys(("nProcessed", "nErrors", "nMissed"), pva.UINT),
            **dict.fromkeys(("runtime", "processedRate", "busyTime", "stuckTime"), pva.DOUBLE),
        },
    }


class RankPvs:
    """Serves status and control of one rank. `update` runs on the heartbeat thread."""

    def __init__(
        self,
        server: Any,
        duty: RankDuty,
        steering: Steering,
        processor: LoadedProcessor,
        reset: Callable[[], None],
    ) -> None:
        import pvaccess as pva

        self._server = server
        self._duty = duty
        self._steering = steering
        self._processor = processor
        self._reset = reset
        self._began = time.monotonic()
        id_field = f"{duty.pool.role}Id"
        self._user_stats = UserStats(processor)
        structure = {**_status_structure(id_field), **self._user_stats.structure}
        self._status = pva.PvObject(structure, {id_field: duty.rank})
        server.addRecord(duty.status_channel, self._status.copy())
        self._control = pva.PvObject(
            {"command": pva.STRING, "args": pva.STRING, "statusMessage": pva.STRING, "objectTime": pva.DOUBLE}
        )
        server.addRecord(duty.control_channel, self._control, self._written)

    def update(self, counters: Counters, *, stuck_s: float = 0.0) -> None:
        """Publish the state of the rank; `stuck_s` is for how long the processor has been busy with one frame."""
        now, runtime = time.time(), time.monotonic() - self._began
        done = counters.published
        self._status.set(
            {
                "inputChannel": self._duty.pool.input,
                "objectTime": now,
                "receiverStats": {
                    "nReceived": counters.received,
                    "nRejected": counters.receiver_rejected,
                    "nOverruns": counters.server_overruns,
                    "receivedRate": counters.received / runtime,
                },
                "publisherStats": {"nPublished": done, "publishedRate": done / runtime},
                "queueStats": {"nReceived": counters.received, "nQueued": counters.queued},
                "processorStats": {
                    "nProcessed": done,
                    "runtime": runtime,
                    "processedRate": done / runtime,
                    "busyTime": counters.busy_s,
                    "stuckTime": stuck_s,
                },
                **self._user_stats.read(),
            }
        )
        self._server.update(self._duty.status_channel, self._status)

    def _written(self, pv: Any) -> None:
        """Runs on a pvAccess thread: only takes the command, the frame loop carries it out."""
        command, arguments = str(pv["command"]), str(pv["args"])
        self._steering.commands.put(lambda: self._say(self._carry_out(command, arguments)))

    def _carry_out(self, command: str, arguments: str) -> str:
        if command == "stop":
            self._steering.stop = True
            return "stopping"
        if command == "reset_stats":
            self._reset()
            return "statistics reset"
        if command == "get_stats":
            return "statistics are on the status channel"
        if command == "configure":
            return self._configure(arguments)
        return f"unknown command {command!r}; known are configure, get_stats, reset_stats, stop"

    def _configure(self, arguments: str) -> str:
        if len(arguments) > MAX_ARGUMENT_CHARACTERS:
            return f"args are too long: {len(arguments)} characters, at most {MAX_ARGUMENT_CHARACTERS}"
        try:
            values = json.loads(arguments)
            if not isinstance(values, dict):
                return "args must be a JSON object of parameters"
            self._processor.configure(values)
        except UsageError as refused:
            return f"not configured: {refused}"
        except (Exception, SystemExit) as error:  # noqa: BLE001 - JSON or the user's code: told to whoever wrote
            return f"not configured: {type(error).__name__}: {error}"
        return "configured"

    def _say(self, message: str) -> None:
        self._control["statusMessage"] = message
        self._control["objectTime"] = time.time()
