"""Reading what PBS Pro's `qstat -x -f -F json` prints. Pure."""

import json
import re
from typing import Any

from beamcast.launch.jobs.words import UNKNOWN, JobEnd, JobState, JobWord, seconds

# Held, waiting for its time, in transit, suspended: it does not run and may run later.
_STATES = {
    "Q": JobState.WAITING,
    "H": JobState.WAITING,
    "W": JobState.WAITING,
    "T": JobState.WAITING,
    "M": JobState.WAITING,
    "S": JobState.RUNNING,
    "U": JobState.RUNNING,
    "B": JobState.RUNNING,
    "R": JobState.RUNNING,
    "E": JobState.ENDING,
    "F": JobState.ENDED,
    "X": JobState.ENDED,
}
# PBS adds 256 to the number of the signal that ended a job: 271 is SIGTERM, by qdel. The negative ones are its own
# codes (JOB_EXEC_…): −29 walltime, −27 and −28 memory, −10 and −11 a node that failed.
_WALLTIME = -29
_MEMORY = frozenset({-27, -28})
_NODE = frozenset({-4, -5, -10, -11, -21})
_SIGTERM, _SIGKILL = 271, 265
_NUMBER = re.compile(r"-?\d+")
_NODES = re.compile(r"([^/+()]+)/")


def parse_qstat(text: str, job: str) -> JobWord:
    """The word on a job; UNKNOWN where the answer has none, or is no JSON (some versions print broken escapes)."""
    try:
        jobs: Any = json.loads(text, strict=False).get("Jobs", {})
    except (ValueError, AttributeError, RecursionError):
        return UNKNOWN
    if not isinstance(jobs, dict):
        return UNKNOWN
    number = job.partition(".")[0]
    found = next((fields for name, fields in jobs.items() if name.partition(".")[0] == number), None)
    return UNKNOWN if not isinstance(found, dict) else _word(found)


def parse_qstat_text(text: str, job: str) -> JobWord:
    """The word on a job from `qstat -f`, where each field has a line of its own, so that one which can't be read spoils
    no other; UNKNOWN where the answer has none."""
    number = job.partition(".")[0]
    fields: dict[str, Any] = {}
    ours = False
    # A line that begins with a tab goes on with the one before.
    for line in text.replace("\n\t", "").splitlines():
        name, separator, value = (part.strip() for part in line.partition("=" if line[:1].isspace() else ":"))
        if name == "Job Id":
            ours = value.partition(".")[0] == number
        elif ours and separator:
            table, _, inner = name.partition(".")
            if inner:
                fields.setdefault(table, {})[inner] = value
            else:
                fields[name] = int(value) if name == "Exit_status" and _NUMBER.fullmatch(value) else value
    return _word(fields) if fields else UNKNOWN


def _word(fields: dict[str, Any]) -> JobWord:
    state = _STATES.get(str(fields.get("job_state", "")), JobState.UNKNOWN)
    comment = str(fields.get("comment", ""))
    status = fields.get("Exit_status")
    end = _end(status, comment) if state is JobState.ENDED else None
    limit = seconds(str(_inside(fields, "Resource_List", "walltime")))
    used = seconds(str(_inside(fields, "resources_used", "walltime")))
    return JobWord(
        state=state,
        end=end,
        reason=comment if state is JobState.WAITING else "",
        nodes=tuple(dict.fromkeys(_NODES.findall(str(fields.get("exec_host", ""))))),
        exit_status="" if status is None else str(status),
        queue=str(fields.get("queue", "")),
        time_left_s=None if limit is None else limit - (used or 0.0),
    )


def _inside(fields: dict[str, Any], table: str, name: str) -> Any:
    inner = fields.get(table)
    return inner.get(name, "") if isinstance(inner, dict) else ""


def _end(status: object, comment: str) -> JobEnd:
    match status:
        case int() if status == _WALLTIME:
            return JobEnd.WALLTIME
        case int() if status in _MEMORY:
            return JobEnd.MEMORY
        case int() if status in _NODE:
            return JobEnd.NODE_FAILURE
        case int() if status in (_SIGTERM, _SIGKILL) or "terminated" in comment.lower():
            return JobEnd.CANCELLED
        case 0:
            return JobEnd.COMPLETED
        case None:
            return JobEnd.CANCELLED  # it was deleted before it began
        case _:
            return JobEnd.FAILED
