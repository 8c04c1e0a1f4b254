"""Commands on their way: to the ranks in the answers to their heartbeats, and what each of them said. Pure, no clock.

The choice: commands travel where orders travel, sealed with the run's secret, so nothing has to reach into the cluster
and an answer means that the thing is done. What `configure` has changed is kept, since a rank that is started anew in
the place of a dead one must not work with other parameters than its fellows.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import structs

from beamcast.config.words import nearest
from beamcast.core.commands import DONE, NOTHING_TO_CONFIGURE, REFUSED, Command
from beamcast.core.errors import UsageError
from beamcast.pva.messages import CommandAnswer, CommandOrder

# A rank carries a command out between two frames; a processor that has not come back by then may never.
ANSWER_S = 30.0
KEPT_TICKETS = 100
_NOTHING = "has nothing to configure"


@dataclass(slots=True)
class Ticket:
    """One command and who was asked. `targets`: all ranks that it is for, `waiting`: those that have to answer;
    `everywhere`: it is for all pools, whichever it concerns."""

    number: int
    command: Command
    targets: tuple[str, ...]
    waiting: set[str]
    asked_at: float
    done: Callable[["Ticket"], None] | None = None
    answers: dict[str, CommandAnswer] = field(default_factory=dict)
    everywhere: bool = False

    @property
    def summary(self) -> tuple[int, str]:
        """Return code and message for whoever asked: what went wrong where, or how many did it."""
        wrong = [f"{name}: {answer.message}" for name, answer in self.answers.items() if answer.code]
        if wrong:
            return REFUSED, "; ".join(wrong[:4]) + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        did = [answer.message for answer in self.answers.values() if answer.message != _NOTHING]
        said = sorted(set(did))
        ranks = "1 rank" if len(did) == 1 else f"{len(did)} ranks"
        return DONE, f"{ranks}: {said[0] if len(said) == 1 else 'done'}"


class CommandBook:
    """All commands of a run. `sizes`: number of ranks by pool. Under the controller's lock."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = dict(sizes)
        self._tickets: dict[int, Ticket] = {}
        self._last = 0
        self._configured: dict[str, dict[str, object]] = {}

    def resize(self, pool: str, ranks: int) -> None:
        """The pool has so many ranks from now on."""
        self._sizes[pool] = ranks

    def ask(
        self,
        command: Command,
        *,
        pool: str | None,
        rank: int | None,
        live: Sequence[str],
        now: float,
        done: Callable[[Ticket], None] | None = None,
    ) -> Ticket:
        """Ask the ranks of a pool, one of them, or all; `live` are those that run now ("stats/3"). `done` is called
        with the last answer. UsageError where there is no such pool or rank, or none of them runs."""
        targets = self._targets(pool, rank)
        asked = [name for name in targets if name in set(live)]
        if not asked:
            raise UsageError(f"nobody to ask: {_listed(targets)} does not run now")
        self._last += 1
        ticket = Ticket(self._last, command, targets, set(asked), now, done, everywhere=pool is None)
        self._tickets[ticket.number] = ticket
        while len(self._tickets) > KEPT_TICKETS:
            del self._tickets[next(iter(self._tickets))]
        return ticket

    def _targets(self, pool: str | None, rank: int | None) -> tuple[str, ...]:
        if pool is not None and pool not in self._sizes:
            raise UsageError(f"the run has no pool {pool!r}", hint=nearest(pool, self._sizes))
        if rank is not None and pool is None:
            raise UsageError("a rank is one of a pool", hint="say which pool")
        if pool is not None and rank is not None and not 0 <= rank < self._sizes[pool]:
            raise UsageError(f"pool {pool!r} has ranks 0 to {self._sizes[pool] - 1}, not {rank}")
        pools = self._sizes if pool is None else {pool: self._sizes[pool]}
        ranks = ((name, number) for name, size in pools.items() for number in range(size))
        return tuple(f"{name}/{number}" for name, number in ranks if rank is None or number == rank)

    def ticket(self, number: int) -> Ticket | None:
        """The command with that number, of the last hundred."""
        return self._tickets.get(number)

    @property
    def waits(self) -> bool:
        """Whether any rank has to answer."""
        return any(one.waiting for one in self._tickets.values())

    def orders(self, member: str) -> tuple[CommandOrder, ...]:
        """What a rank has to do."""
        return tuple(
            CommandOrder(number=one.number, name=one.command.name, arguments=one.command.arguments)
            for one in self._tickets.values()
            if member in one.waiting
        )

    def answered(self, member: str, answers: Sequence[CommandAnswer]) -> None:
        """A rank says what became of its commands. Repeats are without effect."""
        for answer in answers:
            if not answer.number:
                self._keep((member,), json.loads(answer.arguments))
                continue
            ticket = self._tickets.get(answer.number)
            if ticket is not None and member in ticket.waiting:
                if ticket.command.name == "configure" and not answer.code:
                    absent = (
                        one for one in ticket.targets if one not in ticket.waiting | ticket.answers.keys()
                    )
                    self._keep((member, *absent), ticket.command.values)
                self._answer(ticket, member, answer)

    def _keep(self, members: Sequence[str], values: Mapping[str, object]) -> None:
        for member in members:
            self._configured.setdefault(member, {}).update(values)

    def configured(self, member: str) -> str:
        """All parameters that were given to a rank, or to its pool while it was away, as JSON; empty: none."""
        values = self._configured.get(member)
        return json.dumps(values) if values else ""

    def tick(self, now: float, live: Sequence[str]) -> None:
        """Answer for ranks that have died, and for those that take too long."""
        for ticket in self._tickets.values():
            for member in sorted(ticket.waiting):
                if member not in live:
                    self._give_up(ticket, member, "it ended before it answered")
                elif now - ticket.asked_at > ANSWER_S:
                    self._give_up(
                        ticket,
                        member,
                        f"no answer within {ANSWER_S:g} s: its processor may be at a long frame",
                    )

    def _give_up(self, ticket: Ticket, member: str, why: str) -> None:
        self._answer(ticket, member, CommandAnswer(number=ticket.number, code=REFUSED, message=why))

    @staticmethod
    def _answer(ticket: Ticket, member: str, answer: CommandAnswer) -> None:
        ticket.waiting.discard(member)
        ticket.answers[member] = answer
        if not ticket.waiting and ticket.everywhere:
            CommandBook._leave_out(ticket)
        if not ticket.waiting and ticket.done is not None:
            ticket.done(ticket)

    @staticmethod
    def _leave_out(ticket: Ticket) -> None:
        """Whoever has nothing to configure was not meant, where somebody else has."""
        if all(answer.code != DONE for answer in ticket.answers.values()):
            return
        for member, answer in ticket.answers.items():
            if answer.code == NOTHING_TO_CONFIGURE:
                ticket.answers[member] = structs.replace(answer, code=DONE, message=_NOTHING)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"none of {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
