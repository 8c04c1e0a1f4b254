"""A detector that comes back with another structure, for `test_source_changes.py`; run as a program of its own.

Arguments: channel, and a folder. Prints its port. When `go` appears in the folder it sends frames; when `other` does,
it takes its channel away and serves another structure under its name; when `again` does, the first one. Served by
pvxs, whose channels close as those of an IOC that ends; pvaccess leaves its clients at the old record.
"""

import functools
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

PERIOD_S = 0.01
AWAY_S = 0.5


def ndarray() -> Any:
    """What it serves first."""
    from p4p.nt import NTNDArray

    value = NTNDArray().wrap(np.zeros((24, 32), dtype=np.uint8))
    value.dimension = [
        {"size": size, "offset": 0, "fullSize": size, "binning": 1, "reverse": False} for size in (32, 24)
    ]
    return value


@functools.cache  # every update has to have the very type that the channel was opened with
def spectrum() -> Any:
    """The type of what it serves then."""
    from p4p import Type

    time_t = ("S", "time_t", [("secondsPastEpoch", "l"), ("nanoseconds", "i"), ("userTag", "i")])
    return Type([("uniqueId", "i"), ("spectrum", "ad"), ("timeStamp", time_t)])


def other() -> Any:
    """What it serves then: ids go on, all else is new."""
    from p4p import Value

    return Value(spectrum(), {"spectrum": np.ones(20)})


def main(channel: str, folder: Path) -> None:
    """Serve until killed."""
    from p4p.server import Server, StaticProvider
    from p4p.server.thread import SharedPV

    provider, record = StaticProvider("detector"), SharedPV()
    provider.add(channel, record)
    server = Server([provider], useenv=False, conf={
        "EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1", "EPICS_PVAS_SERVER_PORT": "0",
        "EPICS_PVAS_AUTO_BEACON_ADDR_LIST": "NO", "EPICS_PVAS_BROADCAST_PORT": "0",
    })  # fmt: skip
    record.open(ndarray())
    print(server.conf()["EPICS_PVAS_SERVER_PORT"], flush=True)
    number, make, to_come = 0, ndarray, {"other": other, "again": ndarray}
    while True:
        time.sleep(PERIOD_S)
        for word in [word for word in to_come if (folder / word).exists()]:
            make = to_come.pop(word)
            record.close(destroy=True)
            time.sleep(AWAY_S)
            number += 1
            record.open(stamped(make(), number))
        if (folder / "go").exists():
            number += 1
            record.post(stamped(make(), number))
            (folder / "sent").write_text(str(number))


def stamped(value: Any, number: int) -> Any:
    """The same with its id and the time."""
    value.uniqueId = number
    value.timeStamp = {"secondsPastEpoch": int(time.time()), "nanoseconds": 0}
    return value


if __name__ == "__main__":
    os.environ.pop("EPICS_PVA_NAME_SERVERS", None)
    main(sys.argv[1], Path(sys.argv[2]))
