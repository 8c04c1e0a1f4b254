"""A control PV in PvaPy's form: a command and its JSON arguments are written, the answer is put beside them.

`objectTime` changes when the command is done, or was refused; `returnCode` 0 is done. Two writes within a
millisecond may be seen as one (a record keeps its last value only): wait for the answer before the next write.

pvaccess calls back for a write that processes the record. p4p with `wait` or `process`, and so ophyd-async, writes
without that: `look` finds such a command. A command that was taken is wiped off, so that the same one can come again.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from beamcast.core.commands import REFUSED, Command, Outcome, parse_command
from beamcast.core.errors import UsageError

Answer = Callable[[Outcome], None]
Take = Callable[[Command, Answer], None]


class ControlPv:
    """Serves one control PV. `take` gets each command with what to call when it is done, on a pvAccess thread."""

    def __init__(
        self, server: Any, channel: str, *, take: Take, numbered: dict[str, int] | None = None
    ) -> None:
        """`numbered`: a field that says whose control this is, such as ``{"consumerId": 3}``."""
        import pvaccess as pva

        self._take = take
        fields = {
            **dict.fromkeys(numbered or {}, pva.UINT),
            "objectTime": pva.DOUBLE,
            "objectTimestamp": pva.PvTimeStamp(),
            # In this order a client's write is complete once the command is there.
            "args": pva.STRING,
            "command": pva.STRING,
            "statusMessage": pva.STRING,
            "returnCode": pva.INT,
        }
        self._pv = pva.PvObject(fields, numbered or {})
        self._stamp = pva.PvTimeStamp
        self._lock = threading.Lock()
        server.addRecord(channel, self._pv, lambda pv: self.look())

    def look(self) -> None:
        """Take the command that was written, if any. From any thread."""
        with self._lock:
            name, arguments = self._pv.getString("command"), self._pv.getString("args")
            if not name:
                return
            self._pv.setString("command", "")
        try:
            command = parse_command(name, arguments)
            self._take(command, self.answer)
        except UsageError as refused:
            self.answer(Outcome(REFUSED, str(refused)))

    def answer(self, outcome: Outcome) -> None:
        """Say what became of the last command. From any thread."""
        now = time.time()
        self._pv.set(
            {
                "statusMessage": outcome.message,
                "returnCode": outcome.code,
                "objectTime": now,
                "objectTimestamp": self._stamp(now),
            }
        )
