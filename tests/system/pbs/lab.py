"""Executables that behave as PBS Pro's commands, for tests of everything that talks to them."""

import os
import signal
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from pbs.runner import session_members
from pbs.state import FOLDER_VARIABLE, Behaviour, Job, Queue

_EXECUTABLE = """\
#!/bin/sh
PYTHONPATH='{modules}' exec '{python}' -m pbs.commands {name} "$@"
"""


class PbsLab:
    """A folder with `qsub`, `qstat` and `qdel` to be put on PATH; a context manager that ends all its jobs.

    One machine stands for all nodes. A job gets a login environment, not the caller's, as with the real PBS.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.queue = Queue(folder / "queue")

    def __enter__(self) -> Self:
        (self.folder / "bin").mkdir(parents=True)
        self.queue.folder.mkdir()
        for name in ("qsub", "qstat", "qselect", "qdel"):
            path = self.folder / "bin" / name
            modules = Path(__file__).resolve().parents[1]
            path.write_text(_EXECUTABLE.format(modules=modules, python=sys.executable, name=name))
            path.chmod(0o755)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for job in self.queue.jobs():
            runner = [job.runner] if job.runner is not None and job.state != "F" else []
            for pid in [*runner, *(session_members(job.pid) if job.pid is not None else [])]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    @property
    def environment(self) -> dict[str, str]:
        """Variables for whoever calls the commands."""
        path = os.pathsep.join([str(self.folder / "bin"), os.environ.get("PATH", "")])
        return {FOLDER_VARIABLE: str(self.queue.folder), "PATH": path}

    def behave(self, behaviour: Behaviour) -> None:
        """From now on, for new jobs and those that wait."""
        self.queue.behaviour = behaviour

    def job(self, job_id: str) -> Job:
        """A job as it is now; KeyError for one that never was."""
        job = self.queue.read(job_id)
        if job is None:
            raise KeyError(job_id)
        return job

    def wait_for(self, job_id: str, state: str, *, timeout_s: float = 10.0) -> Job:
        """Wait until a job is in a state; TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while self.job(job_id).state != state:
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {job_id} is {self.job(job_id).state}, not {state}")
            time.sleep(0.02)
        return self.job(job_id)

    def vanish(self, job_id: str) -> None:
        """The server forgets the job, which runs on."""
        with self.queue.locked():
            job = self.job(job_id)
            job.vanished = True
            self.queue.write(job)
