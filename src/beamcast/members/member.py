"""The life of one process in a run: it registers, its heartbeat reports and brings orders, and it never outlives
the run for long.

The heartbeat has its own thread, so a processor that blocks does not look like a dead rank; what it reports is
taken from the frame loop without a lock (`beamcast.pools.tally`).
"""

import logging
import os
import platform
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import beamcast
from beamcast.core.errors import BeamcastError, DataError, UsageError, WorldError
from beamcast.members.host.exits import PULSE_VARIABLE
from beamcast.members.join import SECRET_FILE, Join
from beamcast.pva.messages import (
    CommandAnswer,
    Counters,
    Delta,
    FailedFrame,
    Heartbeat,
    MemberId,
    MemberState,
    Orders,
    Registration,
    Unwelcome,
    Versions,
    Welcome,
    Whereabouts,
)
from beamcast.pva.rpc import RpcCaller
from beamcast.security.secret import Refused, RunSecret

logger = logging.getLogger(__name__)

RPC_TIMEOUT_S = 2.0
REGISTER_TIMEOUT_S = 30.0
# So often in turn refused, it is meant.
REFUSALS = 3
# Until the run streams, orders follow each other and the user waits: ask often. An exchange costs 0.3 ms.
SETUP_HEARTBEAT_S = 0.05


@dataclass(slots=True)
class Report:
    """What a member says about itself in one heartbeat."""

    delta: Delta = field(default_factory=Delta)
    counters: Counters = field(default_factory=Counters)
    failed_frames: tuple[FailedFrame, ...] = ()
    last_key: int | None = None
    facts: dict[str, float] = field(default_factory=dict)
    follows: dict[int, int] = field(default_factory=dict)
    counts_from: int | None = None
    looked: int | None = None
    reached: int | None = None
    next_epoch: int = 0
    ends_epoch: bool = False
    dismissed: tuple[MemberId, ...] = ()
    answers: tuple[CommandAnswer, ...] = ()


class Member:
    """One process of a run. `collect` makes the report, `obey` takes the orders; both run on the heartbeat thread."""

    def __init__(self, join: Join, run_dir: Path, identity: MemberId) -> None:
        self.join = join
        self.identity = identity
        self.welcome: Welcome | None = None
        self.serves: tuple[str, ...] = ()
        self.renewed = 0
        self.announced: tuple[str, ...] = ()
        self.rpc_channel = ""
        self.rpc_port = 0
        self.rpc_address = ""
        self.epoch = 0
        # The exit status of the process before this one, where there was one.
        self.before: int | None = None
        self._state: MemberState = "registered"
        self.secret = RunSecret.read(run_dir / SECRET_FILE)
        # Whether the controller has taken this process for dead: another one is to take its place.
        self.given_up = False
        self._caller = RpcCaller(
            join.rpc_channel,
            secret=self.secret,
            sender=f"{identity}#{identity.generation}@{socket.gethostname()}:{os.getpid()}",
        )
        self._collect: Callable[[], Report] = Report
        self._obey: Callable[[Orders], None] = lambda orders: None
        self._problem: tuple[str, str, Literal["", "usage", "world"]] = ("", "", "")
        self._sequence = self._heard = 0
        self._last_answer = time.monotonic()
        self._wake = threading.Event()
        self._ended = self._told_to_stop = False
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._lost = threading.Event()

    def register(self, whereabouts: Whereabouts) -> Welcome:
        """Join the run. UsageError when the controller does not want this process, WorldError when it is silent,
        Refused when it takes none of our messages for one of its run."""
        import pvaccess

        versions = Versions(
            beamcast=beamcast.__version__, python=platform.python_version(), pvapy=str(pvaccess.__version__)
        )
        request = Registration(
            member=self.identity, whereabouts=whereabouts, versions=versions, before=self.before
        )
        deadline, refused = time.monotonic() + REGISTER_TIMEOUT_S, 0
        while True:
            try:
                answer = self._caller.call(request, timeout_s=RPC_TIMEOUT_S)
                break
            except WorldError:
                if time.monotonic() > deadline:
                    raise
            except Refused:
                # On the channel that anybody may ask, this may be the answer to a stranger (ADR 0016).
                refused += 1
                if refused == REFUSALS:
                    raise
        if isinstance(answer, Unwelcome):
            raise UsageError(f"the controller does not want {self.identity}: {answer.reason}")
        assert isinstance(answer, Welcome)
        self.welcome = answer
        return answer

    def live(self, *, collect: Callable[[], Report], obey: Callable[[Orders], None]) -> Self:
        """Choose what is reported and who obeys; the heartbeat starts with the `with` block."""
        self._collect = collect
        self._obey = obey
        return self

    def __enter__(self) -> Self:
        self._last_answer = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, KeyboardInterrupt | SystemExit):
            self.fail(error)
        # Ended by a signal that was not the run's end, it has not finished: the last word says what it did, no more.
        elif self._state not in ("failed", "finished") and (error is None or self._told_to_stop):
            self._state = "finished"
        self._ended = True
        self._wake.set()
        self._thread.join(timeout=3 * RPC_TIMEOUT_S)

    @property
    def state(self) -> MemberState:
        """The state that the next heartbeat reports."""
        return self._state

    def now(self, state: MemberState) -> None:
        """Enter a state and report it at once."""
        if state != self._state and self._state not in ("failed", "finished"):
            self._state = state
            self._wake.set()

    def report_soon(self) -> None:
        """There is something to say that somebody waits for."""
        self._wake.set()

    def fail(self, error: BaseException) -> None:
        """Report that this member can't go on, with the reason."""
        kind: Literal["usage", "world"] = "usage" if isinstance(error, UsageError) else "world"
        notes = "\n".join(getattr(error, "__notes__", ()))
        text = str(error) if isinstance(error, BeamcastError) else f"{type(error).__name__}: {error}"
        self._problem = (text, notes, kind)
        self._state = "failed"

    @property
    def abandoned(self) -> bool:
        """Whether the controller has been silent for so long that this process has to end itself."""
        return self._lost.is_set()

    def _beat(self) -> None:
        period = SETUP_HEARTBEAT_S
        while True:
            self._pulse()
            ended = self._ended
            try:
                orders = self._exchange()
                period = orders.heartbeat_s
                self._told_to_stop = self._told_to_stop or orders.stop
                self._obey(orders)
            except (WorldError, Refused) as trouble:
                logger.warning("heartbeat: %s", trouble)
                if time.monotonic() - self._last_answer > self.join.controller_silence_s:
                    self._lost.set()
                    self._obey(Orders(stop=True))
                    return
            if ended:
                return
            self._wake.wait(period)
            self._wake.clear()

    def _report(self) -> Report:
        """What there is to report; a member whose data are wrong says so, and nothing more after that."""
        try:
            return self._collect()
        except DataError as error:
            self.fail(error)
            self._collect = Report
            return Report()

    def _exchange(self) -> Orders:
        # The state first: the last word of a member that has finished holds all that it has to say.
        state = self._state
        report = self._report()
        state = self._state if self._state == "failed" else state
        self._sequence += 1
        message, detail, kind = self._problem
        heartbeat = Heartbeat(
            member=self.identity,
            state=state,
            sequence=self._sequence,
            heard=self._heard,
            delta=report.delta,
            counters=report.counters,
            failed_frames=report.failed_frames,
            serves=self.serves,
            renewed=self.renewed,
            problem=message,
            problem_detail=detail,
            problem_kind=kind,
            last_key=report.last_key,
            facts=report.facts,
            follows=report.follows,
            counts_from=report.counts_from,
            looked=report.looked,
            reached=report.reached,
            next_epoch=report.next_epoch,
            ends_epoch=report.ends_epoch,
            dismissed=report.dismissed,
            answers=report.answers,
            epoch=self.epoch,
            rpc_channel=self.rpc_channel,
            rpc_port=self.rpc_port,
            rpc_address=self.rpc_address,
        )
        answer = self._deliver(heartbeat)
        self._last_answer = time.monotonic()
        # From now on these channels can be found, also by this process itself.
        self.announced = heartbeat.serves
        if isinstance(answer, Unwelcome):
            logger.warning("no longer wanted: %s", answer.reason)
            self.given_up = True
            return Orders(stop=True)
        assert isinstance(answer, Orders)
        self._heard = heartbeat.sequence
        return answer

    def _deliver(self, heartbeat: Heartbeat) -> object:
        """The ids in a heartbeat exist only once: repeat the same one until it is answered or time is up."""
        level = logging.INFO
        while True:
            self._pulse()
            try:
                return self._caller.call(heartbeat, timeout_s=RPC_TIMEOUT_S)
            except WorldError as trouble:
                if time.monotonic() - self._last_answer > self.join.controller_silence_s:
                    raise
                logger.log(level, "heartbeat %d: %s", heartbeat.sequence, trouble)
                # Once is nothing: pvaccess mixes up answers until a member has a line of its own (ADR 0016).
                level = logging.WARNING

    @staticmethod
    def _pulse() -> None:
        """Show the keeper that this process runs, whether or not the controller answers."""
        descriptor = os.environ.get(PULSE_VARIABLE)
        if descriptor is not None:
            os.write(int(descriptor), b".")
