"""The ring: one server for each double sector, and the aggregator that makes one object of those with one id.

`python ring.py sectors` serves ring:sector:0, ring:sector:1 and so on; `python ring.py aggregator HOST:PORT` joins
them and serves ring:turns. Both print the address that they serve at, and run until their input ends.

Real sectors send 27 000 turns of 28 monitors ten times a second, 95 MB/s in all; here it is a hundredth.
"""

import os
import sys
import threading
import time
from typing import Any

import numpy as np

from beamcast.core.gather import PartGatherer
from beamcast.pva.environment import apply_environment, bound_ports, free_port, server_environment

SECTORS = 20
MONITORS = 28
TURNS = 270
RATE_HZ = 10.0


def positions(sector: int, number: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What a sector measures, in micrometres, as (turns, monitors): an orbit that drifts, and an oscillation."""
    turn = np.arange(TURNS)[:, np.newaxis]
    monitor = np.arange(MONITORS) + MONITORS * sector
    orbit = 100 * np.sin(monitor / 40 + number / 50)
    return np.asarray(orbit + 5 * np.sin(2 * np.pi * (0.22 * turn + monitor / 9)), np.float32)


def serve() -> Any:
    """A server of this process on a free port, whose address is printed."""
    import pvaccess

    server = pvaccess.PvaServer()
    print(f"127.0.0.1:{bound_ports()[0]}", flush=True)
    return server


def sectors(stop: threading.Event) -> None:
    """All sectors, ten objects a second each."""
    import pvaccess as pva

    server = serve()
    one = {"number": pva.LONG, "monitors": pva.INT, "positions": [pva.FLOAT]}
    for sector in range(SECTORS):
        server.addRecord(f"ring:sector:{sector}", pva.PvObject(one))
    number = 0
    while not stop.wait(1 / RATE_HZ):
        number += 1
        for sector in range(SECTORS):
            values = {"number": number, "monitors": MONITORS, "positions": positions(sector, number).ravel()}
            server.update(f"ring:sector:{sector}", pva.PvObject(one, values))


def aggregator(stop: threading.Event) -> None:
    """One object from the parts with one id; those that stay incomplete for a second are given up."""
    import pvaccess as pva

    server = serve()
    sector = {"monitors": pva.INT, "positions": [pva.FLOAT]}
    whole = {
        "header": {"number": pva.LONG, "ring": pva.STRING},
        "timeStamp": pva.PvTimeStamp(),
        "sectors": [sector],
    }
    server.addRecord("ring:turns", pva.PvObject(whole))
    parts: PartGatherer[Any] = PartGatherer(parts=SECTORS, capacity=100, max_wait_s=1.0)
    queues, channels = [], []
    for number in range(SECTORS):
        queues.append(pva.PvObjectQueue(100))
        channels.append(pva.Channel(f"ring:sector:{number}"))
        channels[-1].qMonitor(queues[-1], "record[queueSize=100]field()")
    while not stop.wait(0.002):
        parts.give_up(time.monotonic())
        for number, queue in enumerate(queues):
            while len(queue):
                pv = queue.get(0)
                together = parts.push(pv["number"], number, pv, time.monotonic())
                if together is not None:
                    server.update("ring:turns", _ring(pva, whole, pv["number"], together))


def _ring(pva: Any, whole: dict[str, Any], number: int, together: tuple[Any, ...]) -> Any:
    made = [{"monitors": pv["monitors"], "positions": pv["positions"]} for pv in together]
    values = {
        "header": {"number": number, "ring": "demo"},
        "timeStamp": pva.PvTimeStamp(time.time()),
        "sectors": made,
    }
    return pva.PvObject(whole, values)


def main() -> None:
    """Serve until standard input ends."""
    port = free_port(30000, 30999, "127.0.0.1", prefer=os.getpid() % 1000)
    apply_environment(server_environment(address="127.0.0.1", port=port, name_servers=sys.argv[2:]))
    stop = threading.Event()
    body = threading.Thread(target={"sectors": sectors, "aggregator": aggregator}[sys.argv[1]], args=(stop,))
    body.start()
    sys.stdin.read()
    stop.set()
    body.join()
    os._exit(0)  # pvaccess's C++ threads do not survive the interpreter's teardown


if __name__ == "__main__":
    main()
