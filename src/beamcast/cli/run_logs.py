"""`beamcast logs`: what the processes of a run have written."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Annotated

import typer

from beamcast.cli.outcome import DONE, Quit
from beamcast.cli.query import POLL_S, RunArgument
from beamcast.cli.runline import find_run
from beamcast.config.words import nearest
from beamcast.core.errors import UsageError
from beamcast.launch.rundir.lease import ownership, read_lease
from beamcast.launch.rundir.ownership import Ownership
from beamcast.launch.rundir.rundir import REPORT_FILE
from beamcast.observe.log_lines import for_people, member_of, wanted

MemberArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RANK]",
        help="A rank such as stats/3, a pool, or another process such as mirror; absent: all.",
        show_default=False,
    ),
]
FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")]


def logs(run: RunArgument, member: MemberArgument = None, follow: FollowOption = False) -> None:
    """Show the logs of a run: those of all its processes, of a pool, or of one. Ctrl-C ends it."""
    folder = find_run(run)
    try:
        with ExitStack() as stack:
            _show(folder, member, follow=follow, stack=stack)
    except KeyboardInterrupt:
        raise Quit(DONE) from None
    except BrokenPipeError:
        # Whoever read has seen enough; nothing is left to be flushed into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Quit(DONE) from None


def _show(folder: Path, member: str | None, *, follow: bool, stack: ExitStack) -> None:
    tails: dict[str, Tail] = {}
    while True:
        # First whether it has ended: what is written before that is read below.
        ended = not follow or has_ended(folder)
        logs_there = {member_of(path.stem): path for path in sorted((folder / "logs").glob("*.log"))}
        names = wanted(list(logs_there), member)
        if member is not None and not names and ended:
            raise UsageError(_nothing_from(member, list(logs_there)), hint=nearest(member, logs_there))
        for name in names:
            if name not in tails:
                tails[name] = stack.enter_context(Tail(logs_there[name]))
        alone = member is not None and names == [member_of(member)]
        for name in names:
            _print(tails[name].lines(last=ended), "" if alone else f"{name} | ")
        if ended:
            return
        time.sleep(POLL_S)


def _nothing_from(member: str, there: list[str]) -> str:
    known = f"logs are there of {', '.join(there)}" if there else "it has no logs at all"
    return f"there is no log of {member!r}: it has written nothing, or the run has no such process; {known}"


def _print(lines: Iterator[str], prefix: str) -> None:
    for line in lines:
        for part in for_people(line).splitlines() or [""]:
            print(f"{prefix}{part}")
    sys.stdout.flush()


def has_ended(folder: Path) -> bool:
    """Whether nobody will write any more: there is a report, or no controller."""
    if (folder / REPORT_FILE).exists():
        return True
    lease = read_lease(folder)
    return lease is None or ownership(folder, lease) is not Ownership.LIVES


class Tail:
    """Reads a bounded log line by line, also when a full one becomes `<name>.log.1` and another is begun."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._rest = ""

    def __enter__(self) -> "Tail":
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def lines(self, *, last: bool) -> Iterator[str]:
        """What was written since the last call; `last`: also a line that has no end yet."""
        if self._file is None:
            older = self._path.with_name(f"{self._path.name}.1")
            if older.exists():
                with self._open(older) as file:
                    yield from (line.rstrip("\n") for line in file)
            self._file = self._open(self._path)
        yield from self._read()
        if self._turned():
            yield from self._read()
            self._file.close()
            self._file = self._open(self._path)
            yield from self._read()
        if last and self._rest:
            yield self._rest
            self._rest = ""

    def _read(self) -> Iterator[str]:
        assert self._file is not None
        for text in self._file:
            line = self._rest + text
            self._rest = "" if line.endswith("\n") else line
            if not self._rest:
                yield line.rstrip("\n")

    def _turned(self) -> bool:
        """Whether the file was full, and its name is another one's now."""
        assert self._file is not None
        try:
            return os.fstat(self._file.fileno()).st_ino != self._path.stat().st_ino
        except FileNotFoundError:
            return False

    @staticmethod
    def _open(path: Path) -> IO[str]:
        return path.open(encoding="utf-8", errors="replace", newline="\n")
