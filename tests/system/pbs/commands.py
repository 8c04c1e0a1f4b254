"""qsub, qstat and qdel of the pretended PBS: as programs, they see what the real ones see."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pbs.state import EXIT_UNKNOWN_JOB, SERVER, Job, Queue

_DIRECTIVE = re.compile(r"^#PBS\s+-(\w)\s*(.*)$")


def qsub(words: list[str]) -> int:
    """`qsub [-q QUEUE] [-A ACCOUNT] SCRIPT`: prints the id of the new job."""
    queue = Queue.of_environment()
    if queue.behaviour.reject is not None:
        print(f"qsub: {queue.behaviour.reject}", file=sys.stderr)
        return 32
    options, script = _options(words)
    text = Path(script).read_text()
    resources: list[str] = []
    for line in text.splitlines():
        if match := _DIRECTIVE.match(line):
            letter, value = match[1], match[2].strip()
            resources += [value] if letter == "l" else []
            options.setdefault(letter, value)
    with queue.locked():
        job = _job(queue.next_id(), text, options, resources)
        queue.write(job)
    _start_runner(job)
    print(queue.behaviour.qsub_says.format(id=job.id))
    return queue.behaviour.qsub_status


def _options(words: list[str]) -> tuple[dict[str, str], str]:
    options: dict[str, str] = {}
    rest = list(words)
    while len(rest) > 1 and rest[0].startswith("-"):
        letter, value = rest.pop(0)[1:], rest.pop(0)
        options[letter] = value
    return options, rest[0]


def _job(job_id: str, text: str, options: dict[str, str], resources: list[str]) -> Job:
    select = next((item.removeprefix("select=") for item in resources if item.startswith("select=")), "1")
    walltime = next(
        (item.removeprefix("walltime=") for item in resources if item.startswith("walltime=")), ""
    )
    return Job(
        id=job_id,
        name=options.get("N", "STDIN"),
        script=text,
        nodes=int(select.partition(":")[0]),
        walltime_s=_seconds(walltime) if walltime else None,
        stdout=options.get("o", os.devnull),
        stderr=options.get("e", os.devnull),
        queue=options.get("q", "workq"),
        select=select,
        options=options,
    )


def _seconds(clock: str) -> float:
    total = 0
    for part in clock.split(":"):
        total = 60 * total + int(part)
    return float(total)


def _start_runner(job: Job) -> None:
    """The server's side of the job, which outlives qsub."""
    subprocess.Popen(
        [sys.executable, "-m", "pbs.runner", job.id],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def qstat(words: list[str]) -> int:
    """`qstat -x -f -F json [ID ...]`: prints JSON; ended jobs are in it because of -x."""
    queue = Queue.of_environment()
    if queue.behaviour.qstat_fails:
        print(f"qstat: cannot connect to server {SERVER} (errno=15010)", file=sys.stderr)
        return 1
    as_json = "-F" in words and words[words.index("-F") + 1] == "json"
    if "-f" not in words:
        print("qstat: this pretended server knows `qstat -f` only", file=sys.stderr)
        return 2
    wanted = [word for word in words if not word.startswith("-") and word != "json"]
    with queue.locked():
        found = {
            job.id: job for job in queue.jobs() if not job.vanished and ("-x" in words or job.state != "F")
        }
    chosen = [identity for identity in wanted if identity in found] if wanted else list(found)
    if queue.behaviour.answer_first_only:
        chosen = chosen[:1]
    jobs = {identity: found[identity].shown() for identity in chosen}
    if as_json:
        answer = {"timestamp": int(time.time()), "pbs_version": "23.06", "pbs_server": SERVER, "Jobs": jobs}
        # As openpbs 1255: a value that looks like a number is printed without quotes.
        print(
            json.dumps(answer).replace(
                '"Job_Name"', '"foo":005,"Job_Name"' if queue.behaviour.broken_json else '"Job_Name"'
            )
        )
    else:
        for identity, fields in jobs.items():
            print(f"Job Id: {identity}")
            for name, value in _flat(fields):
                print(f"    {name} = {value}")
            print()
    unknown = [identity for identity in wanted if identity not in found]
    for identity in unknown:
        print(f"qstat: Unknown Job Id {identity}", file=sys.stderr)
    return EXIT_UNKNOWN_JOB if unknown else 0


def _flat(fields: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", each) for inner, each in value.items())
        else:
            yield name, value


def qselect(words: list[str]) -> int:
    """`qselect -x -N NAME`: prints the ids of the jobs of a name."""
    queue = Queue.of_environment()
    name = words[words.index("-N") + 1]
    with queue.locked():
        found = [job.id for job in queue.jobs() if job.name == name and ("-x" in words or job.state != "F")]
    print("\n".join(found))
    return 0


def qdel(words: list[str]) -> int:
    """`qdel ID ...`: the job gets SIGTERM, and SIGKILL two seconds later; one that waits never runs."""
    queue = Queue.of_environment()
    status = 0
    for identity in words:
        with queue.locked():
            job = queue.read(identity)
            if job is None or job.vanished or job.state == "F":
                print(f"qdel: Unknown Job Id {identity}", file=sys.stderr)
                status = EXIT_UNKNOWN_JOB
                continue
            job.deleted = True
            queue.write(job)
    return status


def main() -> None:
    """Called by the three executables, with the command's name first."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    commands = {"qsub": qsub, "qstat": qstat, "qselect": qselect, "qdel": qdel}
    sys.exit(commands[sys.argv[1]](sys.argv[2:]))


if __name__ == "__main__":
    main()
