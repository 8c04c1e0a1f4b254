"""A detector that sends what nobody expects, for `test_hostile.py`; run as a program in a process of its own.

Arguments: channel, and the file whose appearance starts the stream. Prints its port, sends every
frame once, then stays.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

PERIOD_S = 0.01
WARM_UP = 150
BAD = ("empty", "dimensions", "none", "codec", "unknown-codec", "text")


def frames() -> Iterator[tuple[int, str]]:
    """Id and kind of every frame, in order."""
    kinds = [
        "plain",
        "uint16",
        "float64",
        "colour",
        "plain",
        "attributes",
        "large",
        "empty",
        *BAD,
        "plain",
        "time",
    ]
    # A run counts frames from shortly after it is ready: these are for that.
    for number in range(1, WARM_UP + 1):
        yield number, "plain"
    number = WARM_UP
    for kind in kinds * 3:
        number += 1
        yield number, kind
    yield number, "plain"  # comes twice
    for number in (10**9, 10**9 + 1, 2 * 10**9):
        yield number, "uint16"
    for number in range(7, 17):  # the detector has started again
        yield number, "plain"


def fill(pv: Any, number: int, kind: str) -> None:
    """Make the frame of that kind in an NTNDArray."""
    import pvaccess as pva

    shape: tuple[int, ...] = {
        "uint16": (16, 48),
        "colour": (4, 8, 3),
        "large": (512, 512),
        "empty": (0, 0),
    }.get(kind, (24, 32))
    dtype = {"uint16": np.uint16, "float64": np.float64}.get(kind, np.uint8)
    field = {"uint16": "ushortValue", "float64": "doubleValue"}.get(kind, "ubyteValue")
    data = np.full(int(np.prod(shape)), number % 100, dtype)
    sizes = [size + (100 if kind == "dimensions" else 0) for size in reversed(shape)]
    pv["uniqueId"] = number
    pv["dimension"] = (
        []
        if kind == "none"
        else [{"size": size, "offset": 0, "fullSize": size, "binning": 1, "reverse": False} for size in sizes]
    )
    pv["codec"] = {"name": {"codec": "lz4", "unknown-codec": "mp3"}.get(kind, ""), "parameters": ()}
    pv["uncompressedSize"] = 10**9 if kind == "codec" else data.nbytes
    pv["compressedSize"] = 10**9 if kind == "codec" else data.nbytes
    if kind == "text":
        pv.setUnion("value", {"booleanValue": [True, False]})
    else:
        pv.setUnion("value", {field: data})
    stamp = (-(2**62), 2**31 - 1) if kind == "time" else (int(time.time()), 0)
    pv["timeStamp"] = {"secondsPastEpoch": stamp[0], "nanoseconds": stamp[1], "userTag": 0}
    if kind == "attributes":
        pv["attribute"] = [
            {"name": f"a{index}", "value": pva.PvObject({"value": pva.DOUBLE}, {"value": float("nan")})}
            for index in range(number)
        ]


def main(channel: str, go: Path) -> None:
    """Serve until killed."""
    from beamcast.pva.environment import apply_environment, bound_ports, free_port, server_environment

    port = free_port(44000, 44999, "127.0.0.1", prefer=os.getpid() % 1000)
    apply_environment(server_environment(address="127.0.0.1", port=port))
    import pvaccess as pva

    server = pva.PvaServer()
    server.addRecord(channel, pva.NtNdArray())
    print(bound_ports()[0], flush=True)
    while not go.exists():
        time.sleep(0.05)
    for number, kind in frames():
        pv = pva.NtNdArray()
        fill(pv, number, kind)
        server.update(channel, pv)
        time.sleep(PERIOD_S)
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
