"""The status and control PVs of a rank, with the names and fields that PvaPy's tools expect."""

import threading
import time
from collections.abc import Callable
from typing import Any

from beamcast.core.commands import Command, Outcome
from beamcast.pools.commands import Commands
from beamcast.pools.processor import LoadedProcessor
from beamcast.pools.rank_status import RankStatus, status_structure
from beamcast.pools.steering import Steering
from beamcast.pools.user_stats import UserStats
from beamcast.pva.control_pv import Answer, ControlPv
from beamcast.pva.messages import Counters, RankDuty

Configured = Callable[[Command], None]


class RankPvs:
    """Serves status and control of one rank, and carries out what its controller or a client asks for."""

    def __init__(
        self,
        server: Any,
        duty: RankDuty,
        steering: Steering,
        processor: LoadedProcessor,
        *,
        counters: Callable[[], Counters],
        leave: Callable[[], None],
        queued: Callable[[], int],
        configured: Configured | None = None,
    ) -> None:
        """`counters`: the rank's numbers now. `leave`, `queued`: as in `Commands`. `configured` is told of parameters
        that were accepted from a client of the control PV."""
        import pvaccess as pva

        self._server = server
        self._lock = threading.Lock()
        self._channel = duty.status_channel
        self._counters = counters
        self._processor = processor
        self._configured = configured
        self._numbers = RankStatus(duty.pool.role, duty.input_channel or duty.pool.input)
        self._last: dict[str, Any] = {}
        self._user_stats = UserStats(processor)
        id_field = f"{duty.pool.role}Id"
        structure = {**status_structure(duty.pool.role), **self._user_stats.structure}
        self._status = pva.PvObject(structure, {id_field: duty.rank})
        self._stamp = pva.PvTimeStamp
        server.addRecord(self._channel, self._status.copy())
        self.commands = Commands(
            steering, processor, stats=self._stats, reset=self._reset, leave=leave, queued=queued
        )
        self._control = ControlPv(
            server, duty.control_channel, take=self._asked, numbered={id_field: duty.rank}
        )

    def update(self, counters: Counters, *, stuck_s: float = 0.0, last_id: int | None = None) -> None:
        """Publish the state of the rank; `stuck_s` is for how long the processor has been busy with one frame,
        `last_id` the last frame that came. From any thread."""
        self._control.look()
        with self._lock:
            values = self._numbers.values(counters, stuck_s=stuck_s, last_id=last_id)
            values.update(self._user_stats.read())
            self._last = values
            self._status.set(values)
            self._status["objectTimestamp"] = self._stamp(time.time())
            self._server.update(self._channel, self._status)

    def _stats(self) -> dict[str, Any]:
        self.update(self._counters())
        return self._last

    def _reset(self) -> None:
        self.update(self._counters())
        self._numbers.reset()
        self._processor.reset_stats()
        self.update(self._counters())

    def _asked(self, command: Command, answer: Answer) -> None:
        def tell(outcome: Outcome) -> None:
            if self._configured is not None and command.name == "configure" and outcome.done:
                self._configured(command)
            answer(outcome)

        self.commands.submit(command, tell)
