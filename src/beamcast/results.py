"""Reading results from Python, so that none is lost unseen.

    from beamcast.results import read_results

    with read_results("demo") as results:      # a run's name or directory, or a PV
        for result in results:
            print(result.id, result["total"])

A run's result PVs and its name server are found in its directory; a PV is looked for as the EPICS environment says,
or at `servers`. The monitor asks for a queue in the form that pvaccess servers heed (`beamcast.pva.results`).

One process reads from one place: pvaccess takes its settings once, from the environment, when its first channel is
made.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from beamcast.core.errors import UsageError, WorldError
from beamcast.launch.rundir.results import ID_FIELDS, Whereabouts, has_ended, is_run_dir, results_of_run
from beamcast.members.names import only_name_server
from beamcast.pva.endpoint import Endpoint
from beamcast.pva.environment import apply_environment, client_environment
from beamcast.pva.monitor import LiveMonitor
from beamcast.pva.results import Result, ResultStream, request
from beamcast.pva.search import find

__all__ = ["QUEUE", "Result", "ResultReader", "read_results"]

T = TypeVar("T")

RUNS = Path("runs")
# The server keeps so many updates for us, and we as many before they are read. Each costs the server some 10 KiB.
QUEUE = 1000
APPEAR_S = 30.0
NAP_S = 0.005
LOOK_S = 0.5
# The last results of a run that has ended may still be on their way to us.
TAIL_S = 1.0


class ResultReader:
    """An iterator over results; use as a context manager, from one thread. `stop` ends it, from anywhere."""

    def __init__(
        self,
        where: Callable[[], Whereabouts | None],
        *,
        queue: int,
        timeout_s: float,
        idle_timeout_s: float | None,
        on_change: Callable[[str, bool], None],
    ) -> None:
        """`where` gives None as long as that is not known; see `read_results`."""
        self._find = where
        self._queue = queue
        self._timeout_s = timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._on_change = on_change
        self._where = Whereabouts(())
        self._streams: list[ResultStream] = []
        self._stopped = False

    def stop(self) -> None:
        """End the iteration, and the waiting for a PV."""
        self._stopped = True

    def _over(self) -> bool:
        return self._stopped

    def __enter__(self) -> Self:
        deadline = time.monotonic() + self._timeout_s
        found = self._wait(self._find, deadline)
        if found is None:
            return self
        self._where = found
        _settle(found)
        if found.servers and not self._wait(lambda: _served(found) or None, deadline):
            if not self._stopped:
                raise _absent(found, self._timeout_s)
            return self
        asked, length = request(self._queue), self._queue
        self._streams = [
            ResultStream(pv, found.id_fields, LiveMonitor(pv, asked, queue_length=length)) for pv in found.pvs
        ]
        if not self._wait(self._all_seen, deadline) and not self._stopped:
            raise _absent(found, self._timeout_s)
        return self

    def _wait(self, ask: Callable[[], T | None], deadline: float) -> T | None:
        """What `ask` gives, once it gives something; None when told to stop or time is up."""
        while not self._over():
            answer = ask()
            if answer is not None:
                return answer
            if time.monotonic() > deadline:
                return None
            time.sleep(NAP_S if self._streams else 0.1)
        return None

    def _all_seen(self) -> bool | None:
        return all(stream.seen() for stream in self._streams) or None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in self._streams:
            stream.close()

    def latest(self) -> list[Result | None]:
        """The present value of each PV; None where it has shown no result yet."""
        return [stream.first for stream in self._streams]

    def __iter__(self) -> Iterator[Result]:
        """Results as they come, the present value of each PV first. Ends when the run has ended and all has been read,
        after `idle_timeout_s` without a result, or by `stop`."""
        moved = looked = time.monotonic()
        ending = False
        while not self._over():
            busy = False
            for stream in self._streams:
                for result in stream.take():
                    busy = True
                    yield result
                    if self._over():
                        return
            now = time.monotonic()
            if busy:
                moved = now
                continue
            if (ending and now - moved > TAIL_S) or (
                self._idle_timeout_s is not None and now - moved > self._idle_timeout_s
            ):
                return
            if now - looked > LOOK_S:
                looked = now
                for stream in self._streams:
                    change = stream.look(now)
                    if change is not None and not ending:
                        self._on_change(stream.pv, change)
                if not ending and self._where.run is not None and has_ended(self._where.run):
                    ending, moved = True, now
            time.sleep(NAP_S)

    @property
    def pvs(self) -> tuple[str, ...]:
        """The PVs that are read."""
        return self._where.pvs

    @property
    def missing(self) -> dict[str, str]:
        """By PV, ids between others that did not come, as ranges. A frame that gives no result leaves such a gap too:
        the run's report knows which do."""
        gaps = {stream.pv: stream.missing() for stream in self._streams}
        return {pv: text for pv, text in gaps.items() if text}

    @property
    def overruns(self) -> int:
        """Updates that pvAccess says it dropped since a queue was full, here or at the server; at least so many."""
        return sum(stream.overruns() for stream in self._streams)


def read_results(
    run_or_pv: str | Path,
    *,
    servers: Sequence[str] = (),
    id_field: str | None = None,
    queue: int = QUEUE,
    timeout_s: float = APPEAR_S,
    idle_timeout_s: float | None = None,
    on_change: Callable[[str, bool], None] = lambda pv, connected: None,
) -> ResultReader:
    """Read the results of a run, or of a PV.

    `run_or_pv`: a run's directory, its name under ./runs, or a PV. `servers`: pvAccess servers or name servers of a PV,
    "host:port" each; without any the EPICS environment counts. `id_field`: what numbers the results, where that is not
    the run's own or uniqueId. `queue` in results, at the server and here. On entering, WorldError when the PV does not
    answer within `timeout_s` seconds. `idle_timeout_s`: the iteration ends after so long without a result; None: when
    the run has ended, and of a PV never. `on_change` is told of a PV that goes away (False) or comes back (True), while
    the loop waits for results.
    """
    if queue < 2:
        raise UsageError(f"a queue holds at least 2 results, not {queue}")
    text = str(run_or_pv)
    folder = next((path for path in (Path(text), RUNS / text) if is_run_dir(path)), None)
    candidates = ID_FIELDS if id_field is None else (id_field, *ID_FIELDS)
    if folder is None or servers:
        if "/" in text or not text.strip():
            raise UsageError(f"{text!r} is neither the directory of a run nor the name of a PV")
        given = Whereabouts((text,), tuple(servers), candidates)
        return ResultReader(
            lambda: given,
            queue=queue,
            timeout_s=timeout_s,
            idle_timeout_s=idle_timeout_s,
            on_change=on_change,
        )
    return ResultReader(
        lambda: results_of_run(folder, candidates if id_field else ()),
        queue=queue,
        timeout_s=timeout_s,
        idle_timeout_s=idle_timeout_s,
        on_change=on_change,
    )


_settled: list[tuple[str, ...]] = []


def _settle(where: Whereabouts) -> None:
    """Take the EPICS settings of this process, which pvaccess reads once."""
    if where.servers not in _settled and _settled:
        raise UsageError(
            "this process reads from another place already: pvaccess takes its settings once",
            hint="use a process for each run, or one name server that knows all PVs",
        )
    if not _settled:
        _settled.append(where.servers)
        servers = list(where.servers) or os.environ.get("EPICS_PVA_NAME_SERVERS", "").split()
        one = only_name_server(servers)
        if where.servers:
            apply_environment(client_environment(one))
        elif one:
            os.environ["EPICS_PVA_NAME_SERVERS"] = one[0]


def _served(where: Whereabouts) -> bool:
    """Whether the run's name server knows the PVs: a channel that is made before is found late."""
    if where.run is None:
        return True  # servers of others need not answer our question
    try:
        endpoint = Endpoint.parse(where.servers[0])
        return all(find(endpoint, pv, timeout_s=2.0) is not None for pv in where.pvs)
    except OSError:
        return False


def _absent(where: Whereabouts, timeout_s: float) -> WorldError:
    pvs = ", ".join(where.pvs)
    if where.run is not None:
        return WorldError(
            f"the run in {where.run} did not serve its results ({pvs}) within {timeout_s:g} s",
            hint="a run that waits for its allocation serves them later (`beamcast status`); --timeout waits longer",
        )
    asked = f"asked {', '.join(where.servers)}" if where.servers else "searched as the EPICS environment says"
    return WorldError(
        f"the PV {pvs} did not answer within {timeout_s:g} s ({asked})",
        hint=f"is this its exact name, and is there no run of that name under ./{RUNS}? --server says where to ask",
    )
