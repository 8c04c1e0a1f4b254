"""A detector of either kind of server; a program in a process of its own.

Arguments: "pvaccess" or "pvxs", the structure's name, channel, folder. Prints its port. Sends plain frames as soon as
there is a file `go` in the folder, and each frame of the structure once there is a file `measure`; writes down the
variant of each id in `sent.json`, and stays.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from beamcast.pva.environment import apply_environment, bound_ports, free_port, server_environment
from beamcast.pva.ndarray import FIELD_OF_DTYPE, SCALAR_OF_FIELD
from conformance.variants import ID, STRUCTURES, Frame, Spec, Structure, ids, plain_frame, smaller

PERIOD_S = 0.02
LOOPBACK = "127.0.0.1"
CODES = {"?": "BOOLEAN", "b": "BYTE", "B": "UBYTE", "h": "SHORT", "H": "USHORT", "i": "INT", "I": "UINT"}
CODES |= {"l": "LONG", "L": "ULONG", "f": "FLOAT", "d": "DOUBLE", "s": "STRING"}


def header(structure: Structure, number: int, now: float) -> dict[str, Any]:
    """The fields that number and time a frame."""
    tag = number if structure.id_field == "timeStamp.userTag" else 0
    stamp = {"secondsPastEpoch": int(now), "nanoseconds": int(now % 1 * 1e9), "userTag": tag}
    fields = {"uniqueId": number, "timeStamp": stamp, "dataTimeStamp": stamp}
    return {name: value for name, value in fields.items() if structure.has(name)}


def field_of(frame: Frame) -> str:
    """The field of the value's union."""
    return "booleanValue" if frame.payload.dtype.kind == "b" else FIELD_OF_DTYPE[frame.payload.dtype]


def dimensions(structure: Structure, frame: Frame) -> list[dict[str, Any]]:
    """As the structure says them."""
    whole = [
        {"size": size, "offset": 0, "fullSize": size, "binning": 1, "reverse": False}
        for size in reversed(frame.shape)
    ]
    known = [name for name, _ in dict(structure.spec)["dimension"][2]]
    return [{name: one[name] for name in known} for one in whole]


def serve_pvxs(structure: Structure, channel: str, port: int) -> Callable[[int, Frame], None]:
    """A server of pvxs, and what publishes a frame."""
    from p4p import Type, Value
    from p4p.server import Server
    from p4p.server.thread import SharedPV

    kind = Type(structure.spec, id=ID)
    pv = SharedPV(initial=Value(kind, {}))
    conf = {
        "EPICS_PVAS_INTF_ADDR_LIST": LOOPBACK, "EPICS_PVAS_SERVER_PORT": str(port), "EPICS_PVAS_BROADCAST_PORT": "0",
        "EPICS_PVAS_AUTO_BEACON_ADDR_LIST": "NO",
    }  # fmt: skip
    kept.append(Server(providers=[{channel: pv}], conf=conf, useenv=False))

    def send(number: int, frame: Frame) -> None:
        name = field_of(frame)
        fields = {
            "value": (name, frame.payload) if dict(structure.spec)["value"] != "v" else frame.payload,
            "dimension": dimensions(structure, frame),
            "attribute": [{"name": one, "value": value} for one, value in frame.attributes.items()],
            "codec": {"name": frame.codec, "parameters": frame.parameters},
            "compressedSize": frame.payload.nbytes,
            "uncompressedSize": frame.stated,
        }
        known = {one: value for one, value in fields.items() if structure.has(one)}
        pv.post(Value(kind, {**known, **header(structure, number, time.time())}))

    return send


kept: list[Any] = []


def pva_structure(spec: Spec) -> dict[str, Any]:
    """A structure as pvaccess writes it."""
    import pvaccess as pva

    def one(kind: Any) -> Any:
        if isinstance(kind, str):
            if kind == "v":
                return ()
            scalar = getattr(pva, CODES[kind[-1]])
            return [scalar] if kind[0] == "a" else scalar
        inner = pva_structure(kind[2])
        return {"U": (inner,), "S": inner, "aS": [inner]}[kind[0]]

    return {name: one(kind) for name, kind in spec}


def serve_pvaccess(structure: Structure, channel: str, port: int) -> Callable[[int, Frame], None]:
    """A server of pvaccess, and what publishes a frame."""
    apply_environment(server_environment(address=LOOPBACK, port=port))
    import pvaccess as pva

    made_of = pva_structure(structure.spec)
    server = pva.PvaServer()
    server.addRecord(channel, pva.PvObject(made_of, ID))
    kept.append(server)
    kinds = {bool: pva.BOOLEAN, int: pva.LONG, float: pva.DOUBLE, str: pva.STRING}

    def send(number: int, frame: Frame) -> None:
        pv = pva.PvObject(made_of, ID)
        name = field_of(frame)
        if dict(structure.spec)["value"] == "v":
            pv["value"] = pva.PvObject({"value": [SCALAR_OF_FIELD[name]]}, {"value": frame.payload})
        else:
            pv.setUnion("value", {name: frame.payload.tolist() if name == "booleanValue" else frame.payload})
        pv["dimension"] = dimensions(structure, frame)
        if structure.has("attribute"):
            pv["attribute"] = [
                {"name": one, "value": pva.PvObject({"value": kinds[type(value)]}, {"value": value})}
                for one, value in frame.attributes.items()
            ]
        if structure.has("codec"):
            pv["codec"] = pva.PvCodec(frame.codec, pva.PvInt(frame.parameters or 0))
        for size, value in (("compressedSize", frame.payload.nbytes), ("uncompressedSize", frame.stated)):
            if structure.has(size):
                pv[size] = value
        for one, value in header(structure, number, time.time()).items():
            pv[one] = value
        server.update(channel, pv)

    return send


def main(server: str, name: str, channel: str, folder: Path) -> None:
    """Serve until killed."""
    structure = next(one for one in STRUCTURES if one.name == name)
    port = free_port(45000, 45999, LOOPBACK, prefer=os.getpid() % 1000)
    send = {"pvxs": serve_pvxs, "pvaccess": serve_pvaccess}[server](structure, channel, port)
    assert port in bound_ports()
    print(port, flush=True)
    while not (folder / "go").exists():
        time.sleep(0.05)
    number = structure.first_id
    warm_up = plain_frame("", np.zeros((24, 32), np.uint8))
    while not (folder / "measure").exists():
        send(ids(structure, number), warm_up)
        number += 1
        time.sleep(PERIOD_S)
    if structure.measured_from is not None:
        number = structure.measured_from
    sent = {}
    for frame in structure.frames():
        sent[ids(structure, number)] = frame.variant
        send(ids(structure, number), smaller(frame, structure))
        number += 1
        time.sleep(PERIOD_S)
    partial = folder / "sent.partial"
    partial.write_text(json.dumps(sent))
    partial.rename(folder / "sent.json")
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
