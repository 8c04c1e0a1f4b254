"""Asking a run how it is: its controller, where that can be reached, otherwise the files that it leaves."""

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from beamcast.core.errors import UsageError, WorldError
from beamcast.launch.rundir.lease import LEASE_FILE, ownership, read_lease
from beamcast.launch.rundir.ownership import STALE_S, Ownership
from beamcast.launch.rundir.rundir import REPORT_FILE, STATE_FILE
from beamcast.launch.rundir.stop_request import leave_request, wait_until_taken
from beamcast.members.join import JOIN_FILE, SECRET_FILE, Join, read_join
from beamcast.observe.report import Report, decode_report
from beamcast.observe.verdict import verdict_of
from beamcast.pva.environment import apply_environment, client_environment
from beamcast.pva.messages import Answer, Question, Reply, Request
from beamcast.pva.rpc import RpcCaller
from beamcast.security.secret import RunSecret

RUNS = Path("runs")
FINAL = ("done", "failed", "cancelled")
ANSWER_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 2.0
# A controller looks for requests twice a second; a file server may show them late.
STOP_REQUEST_S = 20.0


def find_run(text: str) -> Path:
    """The directory of a run; UsageError, with the newest runs, when there is none."""
    for path in (Path(text), RUNS / text):
        if any((path / name).is_file() for name in (LEASE_FILE, JOIN_FILE, REPORT_FILE)):
            return path
    known = sorted(RUNS.glob(f"*/{LEASE_FILE}"), key=lambda path: path.stat().st_mtime, reverse=True)[:5]
    hint = f"the newest are {', '.join(path.parent.name for path in known)}" if known else None
    raise UsageError(f"no run {text!r}: neither a run directory nor a name under ./{RUNS}", hint=hint)


@dataclass(frozen=True, slots=True)
class Look:
    """What could be learned, and from whom. `remark` is for people."""

    report: Report | None
    source: Literal["controller", "state file", "report", "nothing"]
    remark: str = ""

    @property
    def ended(self) -> bool:
        """Whether this is the last word."""
        return self.source == "report"


class RunLine:
    """The line to a run. One thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._join: Join | None = None
        self._caller: RpcCaller | None = None

    def look(self) -> Look:
        """How the run is. WorldError when its controller is no more and left no report."""
        try:
            return Look(report=self._ask(Question(what="status")), source="controller")
        except (WorldError, UsageError) as trouble:
            return self._look_at_files(trouble)

    def stop(self, *, at_once: bool) -> str:
        """Ask the run to stop; returns how that went. WorldError when nobody is there to obey."""
        try:
            report = self._ask(Question(what="stop"))
            if at_once:
                self._ask(Question(what="stop"))
        except (WorldError, UsageError) as trouble:
            return self._leave_request(trouble, at_once=at_once)
        return f"{report.run} was {report.state} and is told to stop"

    def _leave_request(self, trouble: WorldError | UsageError, *, at_once: bool) -> str:
        look = self._look_at_files(trouble)
        if look.ended:
            return "the run has ended already"
        try:
            leave_request(self._folder, deadline_s=STOP_REQUEST_S, at_once=at_once)
        except PermissionError as error:
            raise UsageError(
                f"the run in {self._folder} belongs to another user", hint="only who started it can stop it"
            ) from error
        if wait_until_taken(self._folder, deadline_s=STOP_REQUEST_S):
            return "the run has taken the request to stop from its directory"
        raise WorldError(
            f"the controller did not take the request to stop within {STOP_REQUEST_S:g} s ({trouble})",
            hint=f"the request is taken back; the controller's log is in {self._folder / 'logs'}",
        )

    def _look_at_files(self, trouble: WorldError | UsageError) -> Look:
        """The controller does not answer: it has ended, it is on a host that can't be reached, or it has died."""
        final = read_final_report(self._folder)
        if final is not None:
            return Look(report=final, source="report", remark="the run has ended; this is its report")
        lease = read_lease(self._folder)
        state = ownership(self._folder, lease) if lease is not None else Ownership.GONE
        if lease is None or state is not Ownership.LIVES:
            raise WorldError(
                f"the run in {self._folder} has no controller any more and left no report "
                f"({_fate(state)}; {trouble})",
                hint=f"its logs are in {self._folder / 'logs'}",
            ) from trouble
        path = self._folder / STATE_FILE
        owner = f"pid {lease.pid} on {lease.host}"
        if not path.is_file():
            return Look(report=None, source="nothing", remark=f"the run is being started by {owner}")
        age_s = max(0.0, time.time() - path.stat().st_mtime)
        remark = f"as its controller ({owner}) left it {age_s:.0f} s ago; it can't be asked from here"
        return Look(report=_read_report(path), source="state file", remark=remark)

    def _ask(self, question: Question) -> Report:
        """The run's report now; WorldError when the controller is gone or silent, UsageError when there is none yet."""
        answer = self.exchange(question)
        if not isinstance(answer, Reply):
            raise WorldError(f"the controller answered with {type(answer).__name__}")
        return decode_report(answer.report)

    def exchange(self, request: Request) -> Answer:
        """One message and its answer; WorldError when the controller is gone or silent."""
        self._connect()
        assert self._caller is not None
        return self._caller.call(request, timeout_s=ANSWER_TIMEOUT_S)

    def command(self, request: Request) -> Answer:
        """As `exchange`, for what only a controller can do: UsageError when the run has ended, WorldError, which says
        what has become of the controller, when it does not answer."""
        try:
            return self.exchange(request)
        except (WorldError, UsageError) as trouble:
            look = self._look_at_files(trouble)
            if look.ended and look.report is not None:
                verdict = verdict_of(look.report)
                how = f": {verdict.line}" if verdict is not None else ""
                raise UsageError(f"the run in {self._folder} has ended{how}") from trouble
            if look.source == "nothing":
                raise UsageError(f"{look.remark}; try again when it is ready") from trouble
            raise

    def _connect(self) -> None:
        """A refused connection tells at once what a search would tell after its timeout."""
        self._join = join = self._join or read_join(self._folder)
        server = join.name_server_endpoint
        try:
            socket.create_connection((server.host, server.port), timeout=CONNECT_TIMEOUT_S).close()
        except OSError as error:
            raise WorldError(f"no controller answers at {server}: {error.strerror or error}") from error
        if self._caller is None:
            apply_environment(client_environment([join.name_server]))
            sender = f"command@{socket.gethostname()}:{os.getpid()}"
            secret = RunSecret.read(self._folder / SECRET_FILE)
            self._caller = RpcCaller(join.rpc_channel, secret=secret, sender=sender)


def _fate(state: Ownership) -> str:
    match state:
        case Ownership.SILENT:
            return f"its lease was not renewed for more than {STALE_S:g} s"
        case Ownership.LEFT:
            return "it has left"
        case _:
            return "its process is gone"


def read_final_report(folder: Path) -> Report | None:
    """The report that an ended run left; None when there is none, UsageError when it can't be read."""
    path = folder / REPORT_FILE
    return _read_report(path) if path.is_file() else None


def _read_report(path: Path) -> Report:
    try:
        return decode_report(path.read_bytes())
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{path} can't be read: {error}", hint="was it written by another version?"
        ) from error
