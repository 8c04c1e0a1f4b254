"""`beamcast attach`: the live view of a run that goes on by itself."""

import time
from pathlib import Path

from beamcast.cli.outcome import DONE, Quit, report_status
from beamcast.cli.query import POLL_S, RunArgument
from beamcast.cli.runline import Look, RunLine, find_run
from beamcast.cli.watch import Watch, output_console
from beamcast.observe.report import Report
from beamcast.observe.tables import summary


def attach(run: RunArgument) -> None:
    """Watch a run until it ends. Ctrl-C leaves it running; `beamcast stop` ends it."""
    folder = find_run(run)
    console = output_console()
    try:
        with Watch(console, quiet=False) as watch:
            last = _follow(RunLine(folder), watch)
    except KeyboardInterrupt:
        print(f"the run goes on; `beamcast attach {run}` comes back, `beamcast stop {run}` ends it")
        raise Quit(DONE) from None
    console.print(summary(last, width=console.width))
    raise Quit(report_status(last))


def _follow(line: RunLine, watch: Watch) -> Report:
    """Show what there is until the final report."""
    remark = ""
    while True:
        look: Look = line.look()
        if look.ended and look.report is not None:
            return look.report
        if look.report is not None:
            watch(look.report)
        if look.source != "controller" and look.remark.partition(" left it ")[0] != remark:
            remark = look.remark.partition(" left it ")[0]
            print(look.remark, flush=True)
        time.sleep(POLL_S)


def shown_name(folder: Path, run: str) -> str:
    """How a user names the run to the other commands, from here."""
    return run if folder.absolute() == (Path("runs") / run).absolute() else str(folder)
