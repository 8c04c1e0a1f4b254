"""A client of the results of either kind; a program in a process of its own.

Arguments: "pvaccess" or "pvxs", run directory, id field. Prints one JSON object for each result: its id, and what is in
it as `variants.mark` has it. Ends when its standard input does.
"""

import json
import os
import queue
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conformance.variants import mark

Shown = tuple[int, dict[str, Any]]


def by_pvaccess(folder: Path, id_field: str) -> Iterator[Shown]:
    """`beamcast.results`, as users have it."""
    from beamcast.results import read_results

    reader = read_results(folder, id_field=id_field, timeout_s=60)
    threading.Thread(target=lambda: (sys.stdin.read(), reader.stop()), daemon=True).start()
    with reader:
        for result in reader:
            pv = result.update
            value = pv["value"]
            payload = next(iter(value[0].values())) if isinstance(value, tuple) else value
            codec = pv["codec.name"] if pv.hasField("codec.name") else ""
            attributes = pv["attribute"] if pv.hasField("attribute") else []
            named = {one["name"]: one["value"][0]["value"] for one in attributes}
            assert result.id is not None
            yield result.id, mark(payload, [one["size"] for one in pv["dimension"]], codec, named)


def by_pvxs(folder: Path, id_field: str) -> Iterator[Shown]:
    """p4p, as the page on reading results has it."""
    from beamcast.launch.rundir.results import results_of_run

    where = results_of_run(folder, ())
    assert where is not None
    os.environ.update(EPICS_PVA_NAME_SERVERS=where.servers[0], EPICS_PVA_AUTO_ADDR_LIST="NO")
    from p4p.client.thread import Context

    arrived: queue.Queue[Any] = queue.Queue()
    context = Context("pva", nt=False)
    subscription = context.monitor(where.pvs[0], arrived.put, request="record[queueSize=1000]field()")
    threading.Thread(target=lambda: (sys.stdin.read(), arrived.put(None)), daemon=True).start()
    while (value := arrived.get()) is not None:
        if value["value"] is None:
            continue  # the record before its first result
        codec = value["codec.name"] if "codec" in value else ""
        attributes = value.get("attribute", [])
        sizes = [one.size for one in value["dimension"]]
        named = {one["name"]: one["value"] for one in attributes}
        yield int(value[id_field]), mark(value["value"], sizes, codec, named)
    subscription.close()


def main(client: str, folder: Path, id_field: str) -> None:
    """Print results until told to end."""
    for number, shown in {"pvaccess": by_pvaccess, "pvxs": by_pvxs}[client](folder, id_field):
        print(json.dumps({"id": number, **shown}), flush=True)
    sys.stdout.flush()
    os._exit(0)  # pvaccess may crash while the interpreter takes itself down


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
