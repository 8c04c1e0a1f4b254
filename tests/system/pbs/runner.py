"""What PBS does with one job after qsub: let it wait, run it in a session of its own, end it, keep its status."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pbs.state import EXIT_DELETED, EXIT_WALLTIME, Job, Queue

POLL_S = 0.05
KILL_DELAY_S = 2.0


class Runner:
    """One job's run."""

    def __init__(self, queue: Queue, job_id: str) -> None:
        self._queue = queue
        self._id = job_id

    def run(self) -> None:
        """From the queue to the end."""
        self._change(runner=os.getpid())
        submitted = time.monotonic()
        while not self._job().deleted:
            wait_s = self._queue.behaviour.queued_s
            if wait_s is not None and time.monotonic() - submitted >= wait_s:
                self._run_script()
                return
            time.sleep(POLL_S)
        self._change(state="F", exit_status=EXIT_DELETED)

    def _run_script(self) -> None:
        job = self._job()
        process = self._start(job)
        self._change(state="R", pid=process.pid)
        deadline = time.monotonic() + job.walltime_s if job.walltime_s is not None else None
        reason: int | None = None
        while process.poll() is None:
            time.sleep(POLL_S)
            if self._job().deleted:
                reason = EXIT_DELETED
            elif deadline is not None and time.monotonic() > deadline:
                reason = EXIT_WALLTIME
            if reason is not None:
                _end_session(process)
        # What the script left in its session goes with the job.
        _end_session(process)
        code = process.returncode
        self._change(
            state="F", exit_status=reason if reason is not None else code if code >= 0 else 256 - code
        )

    def _start(self, job: Job) -> "subprocess.Popen[Any]":
        number = job.id.partition(".")[0]
        script, nodes = self._queue.folder / f"{number}.SC", self._queue.folder / f"{number}.nodes"
        script.write_text(job.script)
        nodes.write_text("localhost\n" * job.nodes)
        # PBS starts a job in the user's login environment, not in that of qsub: what it needs, its script must set.
        environment = {
            "HOME": os.environ.get("HOME", "/"),
            "USER": os.environ.get("USER", "user"),
            "SHELL": "/bin/bash",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "PBS_JOBID": job.id,
            "PBS_JOBNAME": job.name,
            "PBS_NODEFILE": str(nodes),
            "PBS_ENVIRONMENT": "PBS_BATCH",
            "PBS_O_WORKDIR": str(Path.cwd()),
            "PBS_QUEUE": job.queue,
        }
        with Path(job.stdout).open("wb") as out, Path(job.stderr).open("wb") as err:
            return subprocess.Popen(
                ["/bin/bash", str(script)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                cwd=environment["HOME"],
                start_new_session=True,
            )

    def _job(self) -> Job:
        job = self._queue.read(self._id)
        assert job is not None
        return job

    def _change(self, **changes: Any) -> None:
        with self._queue.locked():
            job = self._job()
            for name, value in changes.items():
                setattr(job, name, value)
            self._queue.write(job)


def _end_session(process: "subprocess.Popen[Any]") -> None:
    """SIGTERM to the job's process group, SIGKILL to what is left of its session after a moment."""
    _signal_session(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + KILL_DELAY_S
    while session_members(process.pid) and time.monotonic() < deadline:
        process.poll()
        time.sleep(POLL_S)
    _signal_session(process.pid, signal.SIGKILL)
    process.wait()


def _signal_session(session: int, number: signal.Signals) -> None:
    for pid in session_members(session):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def session_members(session: int) -> list[int]:
    """Living processes of a session: all that PBS itself knows of a job on its first node."""
    members = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            members.append(int(path.name))
    return members


if __name__ == "__main__":
    Runner(Queue.of_environment(), sys.argv[1]).run()
