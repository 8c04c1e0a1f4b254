"""Reading what Slurm's commands print. Pure.

`scontrol show job` tells why a job ended without an accounting database, for as long as slurmctld remembers it
(MinJobAge, five minutes by default); `sacct` tells later, where there is one.
"""

import re

from beamcast.launch.jobs.words import UNKNOWN, JobEnd, JobState, JobWord, seconds

_WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
_RUNNING = frozenset({"RUNNING", "CONFIGURING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT"})
_ENDS = {
    "COMPLETED": JobEnd.COMPLETED,
    "CANCELLED": JobEnd.CANCELLED,
    "REVOKED": JobEnd.CANCELLED,
    "TIMEOUT": JobEnd.WALLTIME,
    "DEADLINE": JobEnd.WALLTIME,
    "NODE_FAIL": JobEnd.NODE_FAILURE,
    "BOOT_FAIL": JobEnd.NODE_FAILURE,
    "PREEMPTED": JobEnd.PREEMPTED,
    "OUT_OF_MEMORY": JobEnd.MEMORY,
    "FAILED": JobEnd.FAILED,
}
_FIELD = re.compile(r"(?:^|\s)(JobState|Reason|ExitCode|NodeList|Partition|RunTime|TimeLimit)=(\S*)")
_NOTHING = frozenset({"", "None", "(null)", "N/A"})
_BRACKETS = re.compile(r"([^,\[]+)\[([^\]]+)\]|([^,\[]+)")


def parse_scontrol(text: str) -> JobWord:
    """The word on a job from `scontrol -o show job ID`; UNKNOWN where there is none."""
    fields = {name: "" if value in _NOTHING else value for name, value in _FIELD.findall(text)}
    if "JobState" not in fields:
        return UNKNOWN
    limit, used = seconds(fields.get("TimeLimit", "")), seconds(fields.get("RunTime", ""))
    state, end = _state(fields["JobState"])
    return JobWord(
        state=state,
        end=end,
        reason=_reason(fields.get("Reason", ""), end),
        nodes=expand(fields.get("NodeList", "")),
        exit_status=_status(fields.get("ExitCode", "")),
        queue=fields.get("Partition", ""),
        time_left_s=None if limit is None or used is None else limit - used,
    )


def parse_sacct(text: str) -> JobWord:
    """The word on a job from `sacct -X -n -P -o State,ExitCode,NodeList -j ID`; UNKNOWN where there is none."""
    fields = text.strip().partition("\n")[0].split("|")
    if len(fields) != 3:
        return UNKNOWN
    state, end = _state(fields[0].split()[0] if fields[0] else "")
    who = fields[0].partition(" ")[2]  # "CANCELLED by 1000"
    return JobWord(state=state, end=end, reason=who, nodes=expand(fields[2]), exit_status=_status(fields[1]))


def parse_position(text: str, job: str) -> int | None:
    """A job's place, from 1, among the waiting jobs of `squeue -h -t PD --sort=-p,i -o %i`; None when not there."""
    waiting = text.split()
    return waiting.index(job) + 1 if job in waiting else None


def parse_silent_nodes(text: str) -> tuple[str, ...]:
    """The nodes that don't answer slurmctld, from `sinfo -h -N -o "%N %T"`: their state has a star, or is down."""
    rows = [line.split() for line in text.splitlines()]
    silent = [row[0] for row in rows if len(row) == 2 and (row[1].endswith("*") or row[1].startswith("down"))]
    return tuple(dict.fromkeys(silent))


def expand(nodes: str) -> tuple[str, ...]:
    """Host names of Slurm's short form: "node[1-3,7],login1"."""
    found: list[str] = []
    for stem, inner, single in _BRACKETS.findall(nodes):
        found += [single] if single else [f"{stem}{number}" for number in _numbers(inner)]
    return tuple(found)


def _numbers(inner: str) -> list[str]:
    numbers: list[str] = []
    for part in inner.split(","):
        first, _, last = part.partition("-")
        width = len(first)
        if not first.isdecimal() or (last and not last.isdecimal()):
            return [f"[{inner}]"]  # a form that we don't know: better shown as it is than wrong
        numbers += [f"{number:0{width}d}" for number in range(int(first), int(last or first) + 1)]
    return numbers


def _state(word: str) -> tuple[JobState, JobEnd | None]:
    word = word.removesuffix("+")
    if word in _WAITING:
        return JobState.WAITING, None
    if word in _RUNNING:
        return JobState.RUNNING, None
    if word == "COMPLETING":
        return JobState.ENDING, None
    end = _ENDS.get(word)
    return (JobState.ENDED, end) if end is not None else (JobState.UNKNOWN, None)


def _reason(text: str, end: JobEnd | None) -> str:
    """Slurm's reason, where it adds to what the state says: TIMEOUT's is TimeLimit."""
    return "" if end in (JobEnd.WALLTIME, JobEnd.COMPLETED) else text


def _status(text: str) -> str:
    """Of "3:0" the status, of "0:15" the signal."""
    status, _, number = text.partition(":")
    return f"signal {number}" if number not in ("", "0") else status
