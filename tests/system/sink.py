"""A client at the beamline that records the id of every result, as any client would."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from requirements import REPOSITORY

# Stops when the run is over.
CLIENT = """
import os, sys, time, json
from pathlib import Path
from beamcast.pva.environment import apply_environment, client_environment
join, channel, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
while not join.exists():
    time.sleep(0.05)
apply_environment(client_environment([json.loads(join.read_text())["name_server"]]))
import pvaccess
from beamcast.pva.nameserver import Endpoint, find
names = Endpoint.parse(json.loads(join.read_text())["name_server"])
while find(names, channel) is None:
    time.sleep(0.1)
ids, queue, one = [], pvaccess.PvObjectQueue(100000), pvaccess.Channel(channel)
one.qMonitor(queue, "record[queueSize=10000]field(uniqueId)")
while not out.with_suffix(".stop").exists() or len(queue):
    try:
        ids.append(queue.get(0.1)["uniqueId"])
        out.with_suffix(".there").touch()
    except pvaccess.QueueEmpty:
        pass
out.write_text(json.dumps(ids)); os._exit(0)
"""


@contextlib.contextmanager
def recorded_ids(folder: Path, channel: str) -> Iterator[Callable[[], list[int]]]:
    """A client of `channel` for the run in `folder`/run; the function that it gives ends it and returns the ids that it
    saw."""
    script, out = folder / "client.py", folder / "ids.json"
    script.write_text(CLIENT)
    words = [sys.executable, str(script), str(folder / "run" / "join.json"), channel, str(out)]
    client = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")})

    def ids() -> list[int]:
        out.with_suffix(".stop").touch()
        assert client.wait(30) == 0
        seen: list[int] = json.loads(out.read_text())
        return [each for each in seen if each > 0]  # 0: the value before the first frame

    try:
        yield ids
    finally:
        client.kill()
        client.wait()
