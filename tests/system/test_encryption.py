"""Sealed frames over real pvAccess: what travels, what a client in between can read, and what arrives.

pvaccess reads its environment once, so the test runs this file again as a process of its own; it prints one JSON
object.
"""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.system
LOOPBACK = "127.0.0.1"
FRAMES = 40


@pytest.mark.parametrize("scope", ["payload", "object"])
def test_frames_travel_sealed_and_arrive_whole(tmp_path: Path, scope: str) -> None:
    done = subprocess.run(
        [sys.executable, __file__, scope, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["ids"] == list(range(1, FRAMES + 1))
    assert answer["whole"] == FRAMES
    assert answer["plain_on_the_wire"] == 0
    assert answer["refused_after_a_flipped_bit"] == FRAMES
    assert answer["refused_when_played_again"] == FRAMES
    assert answer["attribute"] == 21.5


def stream(scope: Any, folder: Path) -> dict[str, Any]:
    """Seal, send over a socket, receive, try to cheat, open."""
    from beamcast.pva.environment import apply_environment, check_bound, free_port, server_environment

    port = free_port(43000, 43999, LOOPBACK)
    apply_environment(server_environment(address=LOOPBACK, port=port, name_servers=[f"{LOOPBACK}:{port}"]))
    import numpy as np
    import pvaccess

    from beamcast.processors.encryption import Open, Seal
    from beamcast.pva.ndarray import image_view, make_ndarray
    from beamcast.security.envelope import Replayed, Tampered
    from beamcast.security.keys import KeyRing

    KeyRing.create().write(folder / "stream.keys")
    context = SimpleNamespace(run="run", pool="seal", place=SimpleNamespace(rank=0), base=folder)
    seal, open_ = Seal(key_file="stream.keys", scope=scope), Open(key_file="stream.keys")
    seal.start(context)
    open_.start(context)
    images = np.random.default_rng(1).integers(0, 2**16, (FRAMES + 1, 120, 160), dtype=np.uint16)
    frames = [make_ndarray(image, frame_id=number, timestamp_s=1.5) for number, image in enumerate(images)]
    for pv in frames:
        pv["attribute"] = [pvaccess.NtAttribute("Temperature", pvaccess.PvDouble(21.5))]

    server = pvaccess.PvaServer()
    server.addRecord(f"crypt:{scope}", seal.output_type(frames[0]))
    server.start()
    check_bound([port])
    queue, channel = pvaccess.PvObjectQueue(2 * FRAMES), pvaccess.Channel(f"crypt:{scope}")
    channel.qMonitor(queue, f"record[queueSize={FRAMES}]field()")
    received = [queue.get(10.0)]
    for number, pv in enumerate(frames[1:], start=1):
        server.update(f"crypt:{scope}", seal.process(SimpleNamespace(pv=pv, id=number)))
        received.append(queue.get(10.0))
    channel.stopMonitor()

    def payload(pv: Any) -> Any:
        return pv["sealed"] if scope == "object" else pv.getUnion("value").getScalarArray("ubyteValue")

    def flipped(pv: Any) -> Any:
        forged, value = pv.copy(), payload(pv).copy()
        value[-20] ^= 1
        if scope == "object":
            forged.setScalarArray("sealed", value)
        else:
            forged.setUnion("value", {"ubyteValue": value})
        return forged

    def refused(pv: Any, error: type[Exception]) -> bool:
        try:
            open_.process(SimpleNamespace(pv=pv, id=0))
        except error:
            return True
        return False

    sealed = received[1:]
    plain = sum(
        image.tobytes()[:64] in payload(pv).tobytes() for image, pv in zip(images[1:], sealed, strict=True)
    )
    forgeries = sum(refused(flipped(pv), Tampered) for pv in sealed)
    copies = [pv.copy() for pv in sealed]
    opened = [open_.process(SimpleNamespace(pv=pv, id=0)) for pv in sealed]
    replays = sum(refused(pv, Replayed) for pv in copies)
    return {
        "ids": [pv["uniqueId"] for pv in opened],
        "whole": sum(
            bool((image_view(pv) == images[number]).all()) for number, pv in enumerate(opened, start=1)
        ),
        "plain_on_the_wire": plain,
        "refused_after_a_flipped_bit": forgeries,
        "refused_when_played_again": replays,
        "attribute": opened[0]["attribute"][0]["value"][0]["value"],
    }


if __name__ == "__main__":
    print(json.dumps(stream(sys.argv[1], Path(sys.argv[2]))))
