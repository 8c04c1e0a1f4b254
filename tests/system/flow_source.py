"""A source of structures that are no images, for `test_flows.py`; run as a program in a process of its own.

Arguments: kind, channel, and the file whose appearance ends the stream. Prints its port, then sends for ever.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

PERIOD_S = 0.04
FIRST = {"nested": 2**40, "negative": -60, "table": 2**46}


def structure(kind: str) -> Any:
    """An empty object of the kind."""
    import pvaccess as pva

    header = {"number": pva.LONG, "name": pva.STRING}
    rows = [{"a": pva.INT, "b": [pva.SHORT]}]
    match kind:
        case "nested":
            choice = {"whole": pva.INT, "many": [pva.DOUBLE]}
            fields = {"header": header, "choice": (choice,), "any": (), "rows": rows, "words": [pva.STRING]}
            return pva.PvObject(fields)
        case "negative":
            return pva.PvObject({"value": pva.LONG}, "epics:nt/NTScalar:1.0")
        case "table":
            columns = {"bpm": [pva.INT], "x": [pva.DOUBLE]}
            fields = {"labels": [pva.STRING], "value": columns, "uniqueId": pva.ULONG}
            return pva.PvObject(fields, "epics:nt/NTTable:1.0")
    raise ValueError(kind)


def content(kind: str, number: int) -> dict[str, Any]:
    """What the frame of that id holds, as `PvObject.get` gives it; of a union, its selected field alone."""
    match kind:
        case "nested":
            return {
                "header": {"number": number, "name": f"n{number}"},
                "choice": {"many": [1.0, float(number)]} if number % 2 else {"whole": number % 1000},
                "any": {"value": number},
                "rows": [{"a": number % 100, "b": [1, number % 7]}, {"a": 0, "b": []}],
                "words": ["x", str(number)],
            }
        case "negative":
            return {"value": number}
        case "table":
            columns = {"bpm": [1, 2, number % 100], "x": [0.5, 1.5, float(number)]}
            return {"labels": ["bpm", "x"], "value": columns, "uniqueId": number}
    raise ValueError(kind)


def same(got: Any, want: Any) -> bool:
    """Whether an object of pvaccess holds what `content` says."""
    if isinstance(got, tuple):
        got = got[0]  # a union: its value, and the type
    if isinstance(want, dict):
        return (
            isinstance(got, dict) and got.keys() == want.keys() and all(same(got[k], want[k]) for k in want)
        )
    if isinstance(want, list) and want and isinstance(want[0], dict):
        return len(got) == len(want) and all(map(same, got, want))
    return bool(np.array_equal(got, want))


def fill(pv: Any, kind: str, number: int) -> Any:
    """Put the content of a frame into an object."""
    import pvaccess as pva

    values = content(kind, number)
    choice, anything = values.pop("choice", None), values.pop("any", None)
    pv.set(values)
    if choice is not None:
        pv.setUnion("choice", choice)
        pv["any"] = pva.PvObject({"value": pva.LONG}, anything)
    return pv


def main(kind: str, channel: str, enough: Path) -> None:
    """Serve until killed."""
    from beamcast.pva.environment import apply_environment, bound_ports, free_port, server_environment

    port = free_port(46000, 46999, "127.0.0.1", prefer=os.getpid() % 1000)
    apply_environment(server_environment(address="127.0.0.1", port=port))
    import pvaccess as pva

    server = pva.PvaServer()
    number = FIRST[kind]
    server.addRecord(channel, fill(structure(kind), kind, number))
    print(bound_ports()[0], flush=True)
    pv = structure(kind)
    while True:
        time.sleep(PERIOD_S)
        if not enough.exists():
            number += 1
            server.update(channel, fill(pv, kind, number))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
