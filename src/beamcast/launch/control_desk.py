"""Commands to a running run, from the command line or from PVs: the run's own, and those for its ranks.

`stop` and `drain` for the run both end the stream and let it drain; the answer comes when the run has ended. All other
commands, and these for a pool or a rank, go to ranks (`beamcast.launch.commands`).
"""

import threading
import time
from collections.abc import Callable
from typing import assert_never

from beamcast.core.commands import DONE, Command, Outcome, parse_command
from beamcast.core.errors import UsageError
from beamcast.launch.commands import CommandBook, Ticket
from beamcast.launch.plan import RunPlan
from beamcast.launch.roster import Roster
from beamcast.pva.control_pv import Answer, Take
from beamcast.pva.messages import CommandAnswer, Control, ControlQuestion, ControlState

_FOR_THE_RUN = ("drain", "stop")


class ControlDesk:
    """Takes commands and gives answers. Everything under the controller's lock."""

    def __init__(
        self, plan: RunPlan, roster: Roster, *, lock: threading.RLock, ask_stop: Callable[[], None]
    ) -> None:
        self._roster = roster
        self._lock = lock
        self._ask_stop = ask_stop
        self._wait_for_end: list[Answer] = []
        self.book = CommandBook({pool.name: pool.ranks for pool in plan.pools})

    def handle(self, request: Control | ControlQuestion, *, now: float) -> ControlState:
        """A message of `beamcast control`."""
        match request:
            case ControlQuestion():
                ticket = self.book.ticket(request.number)
                return (
                    _state(ticket)
                    if ticket
                    else ControlState(refused=f"no command {request.number} is known")
                )
            case Control():
                try:
                    return self._ask(request, now)
                except UsageError as refused:
                    return ControlState(refused=str(refused))
            case _:
                assert_never(request)

    def _ask(self, request: Control, now: float) -> ControlState:
        command = parse_command(request.name, request.arguments)
        if request.pool is None and request.rank is None and command.name in _FOR_THE_RUN:
            self._ask_stop()
            return ControlState(answers={"run": CommandAnswer(number=0, message="told to drain and end")})
        return _state(
            self.book.ask(command, pool=request.pool, rank=request.rank, live=self._live(), now=now)
        )

    def send_away(self, pool: str, rank: int, *, now: float) -> None:
        """Tell a rank to take no more frames, finish those in hand, and end."""
        self.book.ask(parse_command("drain", ""), pool=pool, rank=rank, live=self._live(), now=now)

    def take(self, pool: str | None) -> Take:
        """What carries out commands that come by the PVs of a pool, or of the run."""

        def taken(command: Command, answer: Answer) -> None:
            with self._lock:
                if pool is None and command.name in _FOR_THE_RUN:
                    self._wait_for_end.append(answer)
                    self._ask_stop()
                    return
                self.book.ask(
                    command,
                    pool=pool,
                    rank=None,
                    live=self._live(),
                    now=time.monotonic(),
                    done=lambda ticket: answer(Outcome(*ticket.summary)),
                )

        return taken

    def tick(self, now: float) -> None:
        """Look for ranks that will not answer any more."""
        if self.book.waits:
            self.book.tick(now, self._live())

    def ended(self, how: str) -> None:
        """The run is over: whoever asked for it is told."""
        for answer in self._wait_for_end:
            answer(Outcome(DONE, how))
        self._wait_for_end.clear()

    def _live(self) -> list[str]:
        ranks = (record for records in self._roster.ranks.values() for record in records)
        return [str(record.identity) for record in ranks if record.live]


def _state(ticket: Ticket) -> ControlState:
    return ControlState(
        number=ticket.number, answers=dict(ticket.answers), waiting=tuple(sorted(ticket.waiting))
    )
