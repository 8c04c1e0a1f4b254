"""A detector whose frames are numbered in a field of one's choice, for `test_id_fields.py`; run as a program.

Arguments: server ("pvaccess" or "pvxs"), the id field, channel, folder, and the ids with commas between them. Prints
its port. When `go` appears in the folder it sends a frame for each id, many of them as fast as it can, and `sent` is
there when it has. One of pvxs is found by UDP at the port in `UDP_PORT`.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

# NTScalarArray and NTTable have no field of their own that numbers them, NTNDArray has; the last one is nested.
KINDS = ("timeStamp.userTag", "uniqueId", "number", "header.number")
SIZE = 2048


def by_pvaccess(id_field: str, channel: str) -> Callable[[int], None]:
    """What sends the frame of an id; the record is served from now on."""
    from beamcast.pva.environment import apply_environment, bound_ports, free_port, server_environment

    port = free_port(43000, 43999, "127.0.0.1", prefer=os.getpid() % 1000)
    apply_environment(server_environment(address="127.0.0.1", port=port))
    import pvaccess as pva

    server = pva.PvaServer()
    stamp = {"secondsPastEpoch": pva.LONG, "nanoseconds": pva.INT, "userTag": pva.INT}
    if id_field == "uniqueId":
        blank = pva.NtNdArray()
    else:
        header = {"number": pva.LONG, "name": pva.STRING}
        fields = {"value": [pva.DOUBLE], "number": pva.LONG, "header": header, "timeStamp": stamp}
        blank = pva.PvObject(fields, "epics:nt/NTScalarArray:1.0")
    server.addRecord(channel, blank.copy())
    print(bound_ports()[0], flush=True)

    def send(number: int) -> None:
        pv = blank.copy()
        now = time.time()
        pv["timeStamp"] = {"secondsPastEpoch": int(now), "nanoseconds": int(now % 1 * 1e9), "userTag": 0}
        if id_field == "uniqueId":
            pv.setUnion("value", {"doubleValue": np.full(SIZE, float(number))})
            size = {"size": SIZE, "offset": 0, "fullSize": SIZE, "binning": 1, "reverse": False}
            pv["dimension"] = [size]
        else:
            pv["value"] = np.full(SIZE, float(number))
        pv[id_field] = number
        server.update(channel, pv)

    return send


def by_pvxs(id_field: str, channel: str) -> Callable[[int], None]:
    """The same with p4p."""
    from p4p import Type, Value
    from p4p.nt import NTNDArray
    from p4p.server import Server, StaticProvider
    from p4p.server.thread import SharedPV

    stamp = ("S", "time_t", [("secondsPastEpoch", "l"), ("nanoseconds", "i"), ("userTag", "i")])
    header = ("S", None, [("number", "l"), ("name", "s")])
    if id_field == "uniqueId":
        kind = NTNDArray.buildType()
    else:
        fields = [("value", "ad"), ("number", "l"), ("header", header), ("timeStamp", stamp)]
        kind = Type(fields, id="epics:nt/NTScalarArray:1.0")
    provider, record = StaticProvider("detector"), SharedPV(initial=Value(kind, {}))
    provider.add(channel, record)
    server = Server([provider], useenv=False, conf={
        "EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1", "EPICS_PVAS_SERVER_PORT": "0",
        "EPICS_PVAS_AUTO_BEACON_ADDR_LIST": "NO", "EPICS_PVAS_BROADCAST_PORT": os.environ.get("UDP_PORT", "0"),
    })  # fmt: skip
    print(server.conf()["EPICS_PVAS_SERVER_PORT"], flush=True)

    def send(number: int) -> None:
        value = Value(kind, {})
        value.value = np.full(SIZE, float(number))
        if id_field == "uniqueId":
            value.dimension = [{"size": SIZE, "offset": 0, "fullSize": SIZE, "binning": 1, "reverse": False}]
        now = time.time()
        value["timeStamp.secondsPastEpoch"] = int(now)
        value["timeStamp.nanoseconds"] = int(now % 1 * 1e9)
        value[id_field] = number
        record.post(value)

    send.server = server  # type: ignore[attr-defined]
    return send


def main(server: str, id_field: str, channel: str, folder: Path, ids: list[int]) -> None:
    """Serve until killed."""
    send = {"pvaccess": by_pvaccess, "pvxs": by_pvxs}[server](id_field, channel)
    while not (folder / "go").exists():
        time.sleep(0.01)
    for number in ids:
        send(number)
        if len(ids) < 1000:
            time.sleep(0.01)
    (folder / "sent").touch()
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main(
        sys.argv[1],
        sys.argv[2],
        sys.argv[3],
        Path(sys.argv[4]),
        [int(each) for each in sys.argv[5].split(",")],
    )
