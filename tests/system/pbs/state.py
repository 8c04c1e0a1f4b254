"""The queue of the pretended PBS: one JSON file for each job in one folder, and what it shall do with the next job.

A job's life is Q → R → F, as `qstat` shows it. `vanished` jobs are unknown to qstat, as after a server's restart.
"""

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER_VARIABLE = "PRETENDED_PBS"
SERVER = "pretended-pbs"

# PBS adds 256 to the number of the signal that ended a job: 271 is SIGTERM by qdel. −29 is its code for walltime.
EXIT_DELETED = 271
EXIT_WALLTIME = -29
# qstat and qdel answer so for an id that they do not know.
EXIT_UNKNOWN_JOB = 153


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the server does with jobs. `queued_s`: how long a job waits; None: for ever."""

    reject: str | None = None
    queued_s: float | None = 0.0
    answer_first_only: bool = False
    qstat_fails: bool = False
    qsub_says: str = "{id}"
    qsub_status: int = 0
    broken_json: bool = False


@dataclass(slots=True)
class Job:
    """One job."""

    id: str
    name: str
    script: str
    nodes: int
    walltime_s: float | None
    stdout: str
    stderr: str
    queue: str
    state: str = "Q"
    exit_status: int | None = None
    pid: int | None = None
    runner: int | None = None
    deleted: bool = False
    vanished: bool = False
    select: str = ""
    options: dict[str, str] = field(default_factory=dict)

    def shown(self) -> dict[str, Any]:
        """The job as qstat's JSON has it."""
        answer: dict[str, Any] = {
            "Job_Name": self.name,
            "job_state": self.state,
            "queue": self.queue,
            "server": SERVER,
            "Output_Path": self.stdout,
            "Error_Path": self.stderr,
            "Resource_List": {"select": self.select, "nodect": self.nodes},
        }
        if self.exit_status is not None:
            answer["Exit_status"] = self.exit_status
        return answer


class Queue:
    """The jobs in a folder; safe for several processes at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_environment(cls) -> "Queue":
        """The queue that the environment names."""
        return cls(Path(os.environ[FOLDER_VARIABLE]))

    @property
    def behaviour(self) -> Behaviour:
        """What tests asked for."""
        path = self.folder / "behaviour.json"
        return Behaviour(**json.loads(path.read_text())) if path.exists() else Behaviour()

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        (self.folder / "behaviour.json").write_text(json.dumps(dataclasses.asdict(behaviour)))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else reads or writes meanwhile."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def next_id(self) -> str:
        """A new job id. To be called when locked."""
        return f"{1 + len(list(self.folder.glob('*.job')))}.{SERVER}"

    def read(self, job_id: str) -> Job | None:
        """A job by its full id or its number."""
        number = job_id.partition(".")[0]
        path = self.folder / f"{number}.job"
        return Job(**json.loads(path.read_text())) if path.exists() else None

    def write(self, job: Job) -> None:
        """Store a job."""
        path = self.folder / f"{job.id.partition('.')[0]}.job"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(dataclasses.asdict(job)))
        partial.replace(path)

    def jobs(self) -> list[Job]:
        """All jobs, vanished ones too."""
        paths = sorted(self.folder.glob("*.job"), key=lambda path: int(path.stem))
        return [Job(**json.loads(path.read_text())) for path in paths]
