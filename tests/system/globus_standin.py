"""`beamcast` with an endpoint of its own: a stand-in for the SDK's executor, everything else real.

What is submitted goes through the SDK's serializer, into a fresh process that knows nothing but what it is sent, and
its result comes back the same way. What travels is kept in the folder named by STANDIN_FOLDER.

    python globus_standin.py run workflow.toml --site ...
"""

import os
import subprocess
import sys
import threading
import uuid
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from globus_compute_sdk import Executor
from globus_compute_sdk.serialize import AllCodeStrategies, ComputeSerializer

from beamcast.config.site import GlobusCompute

_ENDPOINT = """
import sys
from pathlib import Path
from globus_compute_sdk.serialize import ComputeSerializer
serializer = ComputeSerializer()
function, args, kwargs = (serializer.deserialize(part) for part in Path(sys.argv[1]).read_text().split("\\n---\\n"))
Path(sys.argv[2]).write_text(serializer.serialize(function(*args, **kwargs)))
"""


class StandIn(Executor):  # type: ignore[misc] # Parsl takes no other
    """A worker of an endpoint: a process for each function."""

    def __init__(self, globus: GlobusCompute) -> None:
        self.options = globus.options
        self._serializer = ComputeSerializer(strategy_code=AllCodeStrategies())
        self._folder = Path(os.environ["STANDIN_FOLDER"])
        self._processes: list[subprocess.Popen[bytes]] = []

    resource_specification: Any = None
    user_endpoint_config: Any = None

    def submit(self, function: Any, *args: Any, **kwargs: Any) -> "Future[Any]":
        self._serializer.check_strategies(function, *args, **kwargs)
        parts = [self._serializer.serialize(part) for part in (function, args, kwargs)]
        task = self._folder / f"task-{uuid.uuid4().hex}"
        task.write_text("\n---\n".join(parts))
        future: Future[Any] = Future()
        worker = subprocess.Popen([sys.executable, "-c", _ENDPOINT, str(task), f"{task}.result"])
        self._processes.append(worker)
        threading.Thread(target=self._wait, args=(worker, task, future), daemon=True).start()
        return future

    def _wait(self, worker: "subprocess.Popen[bytes]", task: Path, future: "Future[Any]") -> None:
        status = worker.wait()
        if status:
            future.set_exception(RuntimeError(f"the endpoint's worker ended with status {status}"))
        else:
            future.set_result(ComputeSerializer().deserialize(Path(f"{task}.result").read_text()))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        for worker in self._processes:
            if worker.poll() is None:
                worker.kill()

    def _get_result_watcher(self) -> "StandIn":
        return self

    def __del__(self) -> None:
        """The SDK's own wants what its constructor has made."""


if __name__ == "__main__":
    from beamcast.cli.main import main
    from beamcast.launch.start import globus

    globus.sdk_executor = StandIn
    main()
