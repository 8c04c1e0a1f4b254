"""The simulator over real pvAccess: what a client at the other end of a socket gets, and which ports open.

pvaccess reads its environment once, so each test runs this file again as a process of its own, with one word
of what to do; that process prints one JSON object.
"""

import json
import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from beamcast.pva.environment import (
    apply_environment,
    bound_ports,
    check_bound,
    free_port,
    server_environment,
)

pytestmark = pytest.mark.system
LOOPBACK = "127.0.0.1"


def in_process(task: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, task], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_every_frame_arrives_in_order_and_unchanged_across_an_epoch_restart() -> None:
    answer = in_process("stream")
    assert answer["ids"] == [9, *range(10, 110), *range(3, 103)]
    assert answer["verified"] == 201
    assert answer["first_ids"] == [10, 3]
    assert answer["sent"] == [100, 100]
    # 0.2 s of frames: a machine that was held up says so.
    assert 100 / (0.22 + answer["jitter_max_s"]) <= answer["rate_hz"] <= 550, answer
    assert answer["latency_s"] < 5, "timestamps are the time of sending"


def test_unstamped_frames_are_published_without_a_copy_and_arrive_whole() -> None:
    answer = in_process("prepared")
    assert answer["ids"] == list(range(-1, 64))
    assert answer["verified"] == 65


def test_a_server_is_where_it_was_put_and_hears_no_udp_search() -> None:
    answer = in_process("ports")
    assert answer["bound"] == [answer["port"]]
    assert 5076 not in answer["udp"]


def test_a_busy_port_is_noticed() -> None:
    with socket.create_server((LOOPBACK, 0)) as busy:
        port = busy.getsockname()[1]
        done = subprocess.run(
            [sys.executable, __file__, "busy", str(port)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert f"port {port} is not ours" in done.stderr
    assert "WorldError" in done.stderr


def serve(port: int) -> Any:
    apply_environment(server_environment(address=LOOPBACK, port=port, name_servers=[f"{LOOPBACK}:{port}"]))
    import pvaccess

    server = pvaccess.PvaServer()
    server.start()
    check_bound([port])
    return server


def stream(*, stamp: bool) -> dict[str, Any]:
    import threading
    import time

    server = serve(free_port(41000, 41999, LOOPBACK, prefer=os.getpid() % 1000))

    import pvaccess

    from beamcast.pva.ndarray import image_view
    from beamcast.sim.payload import PayloadMaker
    from beamcast.sim.simulator import Simulator
    from beamcast.sim.source import RandomSource

    maker = PayloadMaker((48, 64), "uint16", seed=5)
    source = RandomSource(maker, stamp=stamp)
    plan = (500.0, 100, 10) if stamp else (None, 64, 0)
    simulator = Simulator(
        "sim:image", source, server=server, rate_hz=plan[0], frames=plan[1], first_id=plan[2]
    )
    simulator.serve_initial()
    # The queues hold all frames: what is tested is the simulator, not who is faster.
    queue, channel = pvaccess.PvObjectQueue(1000), pvaccess.Channel("sim:image")
    channel.qMonitor(queue, "record[queueSize=500]field()")
    received = [queue.get(10.0)]
    reports = []

    def play() -> None:
        reports.append(simulator.run(lambda: False))
        if stamp:
            simulator.restart_epoch(3)
            reports.append(simulator.run(lambda: False))

    player = threading.Thread(target=play)
    player.start()
    expected = 1 + (200 if stamp else 64)
    while len(received) < expected:
        received.append(queue.get(10.0))
    age_s = time.time() - received[-1]["timeStamp.secondsPastEpoch"]
    player.join()
    ids = [pv["uniqueId"] for pv in received]
    if stamp:
        verified = sum(maker.verify(image_view(pv), pv["uniqueId"]) for pv in received)
    else:
        verified = sum(bool((image_view(pv) == source.frame(pv["uniqueId"])).all()) for pv in received)
    channel.stopMonitor()
    return {
        "ids": ids,
        "verified": verified,
        "first_ids": [report.first_id for report in reports],
        "sent": [report.sent for report in reports],
        "rate_hz": reports[0].rate_hz,
        "jitter_max_s": reports[0].jitter_max_s,
        "latency_s": age_s,
    }


def ports() -> dict[str, Any]:
    import psutil

    port = free_port(41000, 41999, LOOPBACK, prefer=os.getpid() % 1000)
    server = serve(port)
    udp = [connection.laddr.port for connection in psutil.Process().net_connections(kind="udp")]
    answer = {"port": port, "bound": bound_ports(), "udp": udp}
    server.stop()
    return answer


def main(task: str, *arguments: str) -> None:
    if task == "busy":
        serve(int(arguments[0]))
    else:
        print(json.dumps(ports() if task == "ports" else stream(stamp=task == "stream")))


if __name__ == "__main__":
    main(*sys.argv[1:])
