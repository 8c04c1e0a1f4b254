"""`beamcast status`, `stop` and `report`: asking a run, or what it left behind."""

import os
import socket
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from beamcast.cli.options import JsonOption
from beamcast.cli.watch import output_console
from beamcast.core.errors import UsageError, WorldError
from beamcast.launch.rundir import REPORT_FILE
from beamcast.members.join import JOIN_FILE, SECRET_FILE, Join, read_join
from beamcast.observe.report import Report, decode_report, encode_report
from beamcast.observe.tables import live_view, summary
from beamcast.pva.environment import apply_environment, client_environment
from beamcast.pva.messages import Question, Reply
from beamcast.pva.rpc import RpcCaller
from beamcast.security.secret import RunSecret

RUNS = Path("runs")
ANSWER_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 2.0
POLL_S = 0.5
_FINAL = ("done", "failed", "cancelled")

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run directory, or a name under ./runs.", show_default=False)
]


def find_run(text: str) -> Path:
    """The directory of a run; UsageError, with the newest runs, when there is none."""
    for path in (Path(text), RUNS / text):
        if (path / JOIN_FILE).is_file() or (path / REPORT_FILE).is_file():
            return path
    known = sorted(RUNS.glob(f"*/{JOIN_FILE}"), key=lambda path: path.stat().st_mtime, reverse=True)[:5]
    hint = f"the newest are {', '.join(path.parent.name for path in known)}" if known else None
    raise UsageError(f"no run {text!r}: neither a run directory nor a name under ./{RUNS}", hint=hint)


class RunLine:
    """The line to a run's controller. One thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._join: Join = read_join(folder)
        self._caller: RpcCaller | None = None

    def ask(self, question: Question) -> Report:
        """The run's report now; WorldError when the controller is gone or silent."""
        self._connect()
        assert self._caller is not None
        answer = self._caller.call(question, timeout_s=ANSWER_TIMEOUT_S)
        if not isinstance(answer, Reply):
            raise WorldError(f"the controller answered with {type(answer).__name__}")
        return decode_report(answer.report)

    def _connect(self) -> None:
        """A refused connection tells at once what a search would tell after its timeout."""
        server = self._join.name_server_endpoint
        try:
            socket.create_connection((server.host, server.port), timeout=CONNECT_TIMEOUT_S).close()
        except OSError as error:
            raise WorldError(f"no controller answers at {server}: {error.strerror or error}") from error
        if self._caller is None:
            apply_environment(client_environment([self._join.name_server]))
            sender = f"command@{socket.gethostname()}:{os.getpid()}"
            secret = RunSecret.read(self._folder / SECRET_FILE)
            self._caller = RpcCaller(self._join.rpc_channel, secret=secret, sender=sender)


def read_final_report(folder: Path) -> Report | None:
    """The report that an ended run left; None when there is none, UsageError when it can't be read."""
    path = folder / REPORT_FILE
    if not path.is_file():
        return None
    try:
        return decode_report(path.read_bytes())
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{path} can't be read: {error}", hint="was it written by another version?"
        ) from error


def status(run: RunArgument, as_json: JsonOption = False) -> None:
    """Ask a run how it is doing; of an ended one, show the report."""
    folder = find_run(run)
    try:
        report = RunLine(folder).ask(Question(what="status"))
    except (WorldError, UsageError) as trouble:
        _show_end(folder, trouble, as_json=as_json)
        return
    _show(report, as_json=as_json)


def stop(
    run: RunArgument,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and show the report.")] = False,
) -> None:
    """End a run: the stream is drained first; a second `stop` ends it at once."""
    folder = find_run(run)
    line = RunLine(folder)
    try:
        report = line.ask(Question(what="stop"))
    except WorldError as trouble:
        _show_end(folder, trouble, as_json=False)
        return
    print(f"{report.run} was {report.state} and is told to stop")
    if wait:
        _wait(line, folder)


def _wait(line: RunLine, folder: Path) -> None:
    while True:
        try:
            report = line.ask(Question(what="status"))
        except WorldError as trouble:
            _show_end(folder, trouble, as_json=False)
            return
        if report.state in _FINAL and read_final_report(folder) is not None:
            _show(report, as_json=False)
            return
        time.sleep(POLL_S)


def report(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show the report of an ended run."""
    folder = find_run(run)
    final = read_final_report(folder)
    if final is None:
        raise UsageError(
            f"{folder} has no {REPORT_FILE} yet", hint=f"`beamcast status {run}` asks a run that is going on"
        )
    _show(final, as_json=as_json)


def _show_end(folder: Path, trouble: WorldError | UsageError, *, as_json: bool) -> None:
    """The controller is gone: its report is the last word, and without one it did not end well."""
    final = read_final_report(folder)
    if final is None:
        raise WorldError(
            f"the run in {folder} has no controller any more and left no report ({trouble})",
            hint=f"its logs are in {folder / 'logs'}",
        ) from trouble
    if not as_json:
        print("the run has ended; this is its report")
    _show(final, as_json=as_json)


def _show(report: Report, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.format(encode_report(report), indent=2).decode())
        return
    if report.state in _FINAL:
        output_console().print(summary(report))
        return
    elapsed_s = report.timing_s.streaming or 0.0
    view = live_view(report, elapsed_s=elapsed_s, rate_hz=report.throughput.frames_per_s)
    output_console().print(view)
