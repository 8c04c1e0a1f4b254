"""The demo: one `beamcast run`, and beside it an ordinary EPICS client that checks every result.

The client knows nothing of the run but its name server and the result PV. It recomputes the statistics of each frame
from the simulator's seed and compares: a result that belongs to another frame, is late, missing or wrong, is told.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from beamcast.config.load import load_workflow
from beamcast.pva.environment import apply_environment, client_environment
from beamcast.pva.nameserver import Endpoint, find
from beamcast.sim.payload import PayloadMaker

HERE = Path(__file__).parent
RUN_DIR = Path("runs/demo")
QUIET_S = 5.0


def wait_for_name_server(run: "subprocess.Popen[bytes]", began: float) -> str | None:
    """The name server of the run that was started at `began`; None when the run ended before it had one."""
    join = RUN_DIR / "join.json"
    while run.poll() is None:
        if join.exists() and join.stat().st_mtime > began:
            return str(json.loads(join.read_text())["name_server"])
        time.sleep(0.05)
    return None


def wait_until_served(channel: str, name_server: str, run: "subprocess.Popen[bytes]") -> bool:
    """Whether the run serves its result PV; False when it ended before. A channel made too early is found late."""
    while run.poll() is None:
        with contextlib.suppress(OSError):
            if find(Endpoint.parse(name_server), channel) is not None:
                return True
        time.sleep(0.1)
    return False


def check(run: "subprocess.Popen[bytes]", name_server: str) -> tuple[int, list[str]]:
    """Compare every result with what the frame's payload must give, while the run lasts."""
    apply_environment(client_environment([name_server]))
    import pvaccess

    workflow = load_workflow(HERE / "workflow.toml").workflow
    simulation, results = workflow.source.simulate, workflow.results
    assert simulation is not None
    assert results is not None
    assert results.channel is not None
    maker = PayloadMaker(simulation.shape, simulation.dtype, simulation.seed)
    if not wait_until_served(results.channel, name_server, run):
        return 0, []
    queue = pvaccess.PvObjectQueue(10000)
    channel = pvaccess.Channel(results.channel)
    channel.qMonitor(queue, "record[queueSize=1000]field()")
    good, wrong, last = 0, [], simulation.first_id - 1
    ended: float | None = None
    while ended is None or (len(queue) and time.time() - ended < QUIET_S):
        try:
            pv = queue.get(0.1)
        except pvaccess.QueueEmpty:
            if run.poll() is not None:
                ended = ended or time.time()
            continue
        frame_id = pv["uniqueId"]
        if frame_id == simulation.first_id - 1:
            continue  # the channel's value before the first frame
        if frame_id != last + 1:
            wrong.append(f"frame {frame_id} came after {last}")
        last = frame_id
        expected = maker.expected_statistics(frame_id)
        pairs = [
            (pv["total"], expected.total),
            (pv["maximum"], expected.maximum),
            (pv["centre_row"], expected.center_row),
            (pv["centre_column"], expected.center_col),
        ]
        if all(np.isclose(got, want, rtol=1e-9, equal_nan=True) for got, want in pairs):
            good += 1
        else:
            wrong.append(f"frame {frame_id}: {pairs}")
    return good, wrong


def main() -> int:
    """Run, check, say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", default="local")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "beamcast", "run", str(HERE / "workflow.toml")]
    began = time.time()
    run = subprocess.Popen(
        [*command, "--site", arguments.site, "--name", "demo", "--run-dir", str(RUN_DIR), "--replace"]
    )
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        name_server = wait_for_name_server(run, began)
        if name_server is None:
            return run.returncode or 1
        good, wrong = check(run, name_server)
    except BaseException:
        run.terminate()  # the run drains and ends; it is not left behind
        raise
    status = run.wait()
    simulation = load_workflow(HERE / "workflow.toml").workflow.source.simulate
    assert simulation is not None
    print(
        f"\n{good} of {simulation.frames} results checked against the payload of their frame, {len(wrong)} wrong"
    )
    for line in wrong[:10]:
        print(f"  {line}")
    print(f"The report is in {RUN_DIR / 'report.json'}")
    return status or int(bool(wrong) or good != simulation.frames)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # pvaccess's C++ threads do not survive the interpreter's teardown
